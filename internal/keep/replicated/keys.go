package replicated

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
)

// Below a prefix there are three keys and the records:
//
//	leader      a storagev1.ClusterLeader
//	position    a storagev1.ClusterPosition
//	store       a storagev1.ClusterStore
//	records/K/N one record of the store: K is a letter for its kind, N its name
//
// How values of records are packed says values.go.
type keys struct{ prefix string }

func (k keys) leader() string   { return k.prefix + "leader" }
func (k keys) position() string { return k.prefix + "position" }
func (k keys) store() string    { return k.prefix + "store" }
func (k keys) records() string  { return k.prefix + "records/" }

// LeaderKey is the key whose revision says which leadership it is, of a store whose keys begin with a prefix.
func LeaderKey(prefix string) string { return keys{prefix}.leader() }

// ReadLeader returns the name of the leader of a store whose keys begin with a prefix, as far as the asked member of etcd knows; empty for none.
func ReadLeader(ctx context.Context, client *clientv3.Client, prefix string) (name string, err error) {
	got, err := client.Get(ctx, LeaderKey(prefix), clientv3.WithSerializable())
	if err != nil || len(got.Kvs) == 0 {
		return "", err
	}
	leader := &storagev1.ClusterLeader{}
	if err := proto.Unmarshal(got.Kvs[0].Value, leader); err != nil {
		return "", fmt.Errorf("%w: %w", errValue, err)
	}
	return leader.GetName(), nil
}

// kinds are the letters of the kinds of records.
var kinds = map[groupstore.RecordKind]byte{
	groupstore.FamiliesRecord: 'f', groupstore.NotesRecord: 'n', groupstore.TraceRecord: 't', groupstore.AnswerRecord: 'a', groupstore.SourceRecord: 's',
	groupstore.WipeRecord: 'w',
}

var errKey = errors.New("a key of the cluster's etcd is not understood: it was written by a later release, or by another program")

func (k keys) record(id groupstore.RecordID) string {
	return k.records() + string(kinds[id.Kind]) + "/" + id.Name
}

// recordID returns the record that a key names.
func (k keys) recordID(key string) (groupstore.RecordID, error) {
	rest, ok := strings.CutPrefix(key, k.records())
	if !ok || len(rest) < 2 || rest[1] != '/' {
		return groupstore.RecordID{}, fmt.Errorf("%w: %q", errKey, key)
	}
	for kind, letter := range kinds {
		if letter == rest[0] {
			return groupstore.RecordID{Kind: kind, Name: rest[2:]}, nil
		}
	}
	return groupstore.RecordID{}, fmt.Errorf("%w: %q", errKey, key)
}
