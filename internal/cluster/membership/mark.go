package membership

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/datadir"
	"pushrelay/internal/fileowner"
	storagev1 "pushrelay/internal/gen/storage/v1"
)

// Why a data dir is not that of the member which it was any more.
var (
	// ErrOther means that it was copied or put back, or that a part of it was wiped.
	ErrOther = errors.New("the data dir is not the one that the member had")
	// ErrRemoved means that the cluster has removed the member.
	ErrRemoved = errors.New("the cluster has removed the member")
)

// A mark is how a data dir is known to be the one that it was. It says which file it is itself, which a copy and what comes from a backup are not; and a
// generation that the cluster has as well, and that changes at each start and now and then, which what was put back by a snapshot of the disk has not.
type mark struct {
	datadir.Head

	// Generation is what the cluster has, or else Next, hexadecimal. Next is empty while they are the same.
	Generation string `json:"generation"`
	Next       string `json:"next,omitempty"`
	// Entered says that the cluster has one of them, so that the member's etcd has begun.
	Entered bool `json:"entered"`
	// File is which file this is.
	File fileID `json:"file"`
}

// fileID is what a file is known by. A system that cannot tell has zeros.
type fileID struct {
	Inode uint64 `json:"inode"`
	// Born is when it was made, in nanoseconds since the epoch: an inode may be used again.
	Born int64 `json:"born"`
}

func readMark(file string) (*mark, error) {
	f, err := fileowner.OpenIn(nil, file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // It was only read.
	var m mark
	if err := json.NewDecoder(f).Decode(&m); err != nil {
		return nil, fmt.Errorf("%s is not whole: %w", file, err)
	}
	if err := m.CheckKnown(file, fileVersion); err != nil {
		return nil, err
	}
	is, err := identify(f)
	if err != nil {
		return nil, err
	}
	if is != m.File {
		m.File = fileID{} // it is a copy
	}
	return &m, nil
}

// writeMark replaces the file by one that says which it is.
func (d *Dir) writeMark(m mark) error {
	m.Head = datadir.Head{Version: fileVersion, Release: d.release}
	file := d.file(markFile)
	temporary := file + ".tmp"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if m.File, err = identify(f); err == nil {
		err = json.NewEncoder(f).Encode(m)
	}
	if err = errors.Join(err, fileowner.Adopt(f, d.path), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, file); err != nil {
		return err
	}
	if err := datadir.SyncDir(d.path); err != nil {
		return err
	}
	d.mark = &m
	return nil
}

// digests are those of the generations that the cluster may have.
func (m *mark) digests() [][]byte {
	var all [][]byte
	for _, g := range []string{m.Generation, m.Next} {
		if raw, err := hex.DecodeString(g); err == nil && len(raw) > 0 {
			sum := sha256.Sum256(raw)
			all = append(all, sum[:])
		}
	}
	return all
}

// Prepare must be called before the member's etcd is started, and fails if the data dir is not the one that the member had: its etcd would break what it
// has promised to others. Ask asks another member, nil if nobody can be; that nobody answers is no error.
func (d *Dir) Prepare(ctx context.Context, ask func(ctx context.Context, generations [][]byte) (Confirmation, error)) error {
	pending := d.Member().Pending
	if pending == ForceNew {
		if err := d.reissue(); err != nil {
			return fmt.Errorf("beginning a new cluster: %w", err)
		}
	}
	d.marking.Lock()
	defer d.marking.Unlock()
	if pending == Leave {
		return nil // its etcd is not started any more
	}
	if d.mark == nil {
		return d.begin()
	}
	if _, err := os.Stat(filepath.Join(d.file(engineDir), "member")); errors.Is(err, fs.ErrNotExist) && d.mark.Entered && pending != Import && d.hasOwnEtcd() {
		return d.refuse(fmt.Errorf("its %s was wiped: %w", d.file(engineDir), ErrOther))
	}
	if d.mark.File == (fileID{}) && canIdentify && pending != ForceNew {
		return d.refuse(fmt.Errorf("it was copied or put back: %w", ErrOther))
	}
	if ask == nil || pending != Nothing {
		return nil
	}
	answer, err := ask(ctx, d.mark.digests())
	switch {
	case err != nil:
		return nil // nobody is up who knows; it is compared once a majority is, see Enter
	case !answer.IsMember:
		return d.refuse(ErrRemoved)
	case !answer.IsCurrent:
		return d.refuse(fmt.Errorf("it is older than what the member had last: %w", ErrOther))
	}
	return nil
}

// begin marks a data dir that never started as a member. The caller holds marking.
func (d *Dir) begin() error {
	if _, err := os.Stat(filepath.Join(d.file(engineDir), "member")); err == nil {
		return d.refuse(fmt.Errorf("%s is missing: %w", d.file(markFile), ErrOther))
	}
	if err := d.writeMark(mark{Generation: newID()}); err != nil {
		return fmt.Errorf("marking the data dir of member %q: %w", d.Member().Name, err)
	}
	return nil
}

// refuse says what can be done.
func (d *Dir) refuse(why error) error {
	name := d.Member().Name
	do := fmt.Sprintf("If %s runs elsewhere, give this relay a data dir of its own. Otherwise, on another member: relay-server cluster remove %s, and relay-server cluster token %s; then empty"+
		" this data dir, and relay-server cluster join TOKEN. If no other member is left: relay-server cluster force-new", name, name, name)
	if errors.Is(why, ErrRemoved) {
		do = "To be a relay of its own with what it holds: relay-server cluster leave. To be a member again, empty the data dir, and relay-server cluster join TOKEN"
	}
	return fmt.Errorf("member %q does not start on %s: %w. Nothing was changed. %s", name, d.dataDir, why, do)
}

// Enter must be called once the member's etcd serves, and then says to the others who and where it is. The error is [ErrOther] or [ErrRemoved], in
// words, if this is not the member that it was: then it must stop.
func (d *Dir) Enter(ctx context.Context, client *clientv3.Client) error {
	m := d.Member()
	if !m.HasOwnEtcd() && m.Pending != Import {
		if err := d.CheckEtcd(ctx, client); err != nil {
			return err
		}
	}
	switch m.Pending {
	case Import:
		if !m.HasOwnEtcd() {
			if err := d.claim(ctx, client); err != nil {
				return err
			}
		}
		if err := d.introduce(ctx, client); err != nil {
			return err
		}
	case ForceNew:
		if err := d.introduce(ctx, client); err != nil {
			return err
		}
		if err := d.disown(ctx, client); err != nil {
			return err
		}
	default:
	}
	return d.renew(ctx, client)
}

// renew gives data dir and cluster the next generation, and tells the cluster the member's addresses.
func (d *Dir) renew(ctx context.Context, client *clientv3.Client) error {
	d.marking.Lock()
	defer d.marking.Unlock()
	if d.mark == nil {
		return errors.New("the data dir has no mark: it was not prepared")
	}
	next := *d.mark
	if next.Next == "" {
		next.Next = newID()
		if err := d.writeMark(next); err != nil {
			return fmt.Errorf("marking the data dir of member %q: %w", d.Member().Name, err)
		}
	}
	if err := d.tell(ctx, client, &next); err != nil {
		return err
	}
	if err := d.writeMark(mark{Generation: next.Next, Entered: true}); err != nil {
		return fmt.Errorf("marking the data dir of member %q: %w", d.Member().Name, err)
	}
	return nil
}

// tell compares the cluster's generation with those of the mark, and replaces it. The caller holds marking.
func (d *Dir) tell(ctx context.Context, client *clientv3.Client, m *mark) error {
	own := d.Member()
	key := d.keys().member(own.Name)
	for {
		got, err := client.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("telling the cluster that member %q runs: %w", own.Name, err)
		}
		if len(got.Kvs) == 0 {
			return d.refuse(ErrRemoved)
		}
		var known storagev1.ClusterMember
		if err := proto.Unmarshal(got.Kvs[0].Value, &known); err != nil {
			return fmt.Errorf("reading what the cluster knows of member %q: %w", own.Name, err)
		}
		has := hex.EncodeToString(known.GetGeneration())
		if has == "" && m.Entered && own.Pending == Nothing || has != "" && !slices.Contains([]string{m.Generation, m.Next}, has) {
			return d.refuse(fmt.Errorf("it is older than what the member had last: %w", ErrOther))
		}
		raw, err := hex.DecodeString(m.Next)
		if err != nil {
			return err
		}
		next := &storagev1.ClusterMember{
			Name: own.Name, PeerAddress: own.Peer, LinkAddress: own.Link, WebAddress: own.Web, Witness: own.Witness, Generation: raw, Incarnation: d.incarnation[:],
		}
		if own.HasOwnEtcd() {
			next.EngineId = got.Header.GetMemberId()
		}
		value, err := proto.Marshal(next)
		if err != nil {
			return err
		}
		done, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", got.Kvs[0].ModRevision)).Then(clientv3.OpPut(key, string(value))).Commit()
		if err != nil {
			return fmt.Errorf("telling the cluster that member %q runs: %w", own.Name, err)
		}
		if done.Succeeded {
			return nil
		}
	}
}

// introduce lists the first member of a cluster, if nobody has. One that begins anew has what it had, but for its generation.
func (d *Dir) introduce(ctx context.Context, client *clientv3.Client) error {
	m := d.Member()
	value, err := proto.Marshal(&storagev1.ClusterMember{Name: m.Name, PeerAddress: m.Peer, LinkAddress: m.Link, WebAddress: m.Web})
	if err != nil {
		return err
	}
	txn, key := client.Txn(ctx), d.keys().member(m.Name)
	if m.Pending == Import {
		txn = txn.If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
	}
	if _, err := txn.Then(clientv3.OpPut(key, string(value))).Commit(); err != nil {
		return fmt.Errorf("listing member %q: %w", m.Name, err)
	}
	return nil
}

// disown removes all other members from what a cluster holds that begins anew.
func (d *Dir) disown(ctx context.Context, client *clientv3.Client) error {
	keys := d.keys()
	own := keys.member(d.Member().Name)
	_, err := client.Txn(ctx).Then(
		clientv3.OpDelete(keys.members(), clientv3.WithRange(own)), clientv3.OpDelete(own+"\x00", clientv3.WithRange(clientv3.GetPrefixRangeEnd(keys.members()))),
		clientv3.OpDelete(keys.allRunning(), clientv3.WithPrefix()), clientv3.OpDelete(keys.tokens(), clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return fmt.Errorf("removing the members of the lost cluster: %w", err)
	}
	return nil
}
