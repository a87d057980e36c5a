package shared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	storagev1 "pushrelay/internal/gen/storage/v1"

	"pushrelay/internal/monotonic"
)

func (s *Settings) key(k Kind) string { return s.cfg.Prefix + string(k) }

// settingOf returns the setting that a key has.
func settingOf(kv *mvccpb.KeyValue) (Setting, error) {
	var m storagev1.ClusterSetting
	if err := proto.Unmarshal(kv.Value, &m); err != nil {
		return Setting{}, fmt.Errorf("%w: %q: %w", errMisread, kv.Key, err)
	}
	return Setting{Text: m.Text, By: m.GetBy(), Revision: kv.ModRevision}, nil //nolint:protogetter // An empty text is not the same as none.
}

// errRaced means that it has to be looked anew.
var errRaced = errors.New("it has changed meanwhile")

// write writes a text unless it is there, however often that has to be asked for. It returns the revision at which it was set.
func (s *Settings) write(ctx context.Context, k Kind, text []byte) (revision int64, err error) {
	leader, term, leads := s.cfg.Leads()
	if !leads {
		return 0, ErrNotLeading
	}
	mayWrite := clientv3.Compare(clientv3.ModRevision(leader), "=", term)
	for {
		revision, err = s.writeOnce(ctx, k, text, mayWrite)
		switch {
		case err == nil, errors.Is(err, ErrNotLeading), errors.Is(err, errMisread), isRefused(err):
			return revision, err
		case ctx.Err() != nil:
			return 0, fmt.Errorf("no majority of the cluster answers, so that it is not known whether it is set: %w", err)
		}
		monotonic.Sleep(ctx, again)
	}
}

func (s *Settings) writeOnce(ctx context.Context, k Kind, text []byte, mayWrite clientv3.Cmp) (int64, error) {
	key := s.key(k)
	seen, err := s.ask(ctx, []clientv3.Cmp{mayWrite}, clientv3.OpGet(key))
	switch {
	case err != nil:
		return 0, err
	case !seen.Succeeded:
		return 0, ErrNotLeading
	}
	var before Setting
	for _, kv := range seen.Responses[0].GetResponseRange().GetKvs() {
		if before, err = settingOf(kv); err != nil {
			return 0, err
		}
	}
	isAnothers := before.Revision != 0 && before.By != s.cfg.Name
	if before.Revision != 0 && same(before.Text, text) || isAnothers && text == nil {
		return before.Revision, nil
	}
	value, err := proto.Marshal(&storagev1.ClusterSetting{Text: text, By: s.cfg.Name})
	if err != nil {
		return 0, err
	}
	done, err := s.ask(ctx, []clientv3.Cmp{mayWrite, clientv3.Compare(clientv3.ModRevision(key), "=", before.Revision)}, clientv3.OpPut(key, string(value)))
	switch {
	case err != nil:
		return 0, err
	case !done.Succeeded:
		return 0, errRaced
	}
	if isAnothers {
		s.cfg.Logger.Warn("this relay leads the cluster, and all relays go by its file from now on, which says something else than that of the relay that led before",
			slog.String("file", string(k)), slog.String("before", before.By), slog.Int64("revision", done.Header.GetRevision()))
	}
	return done.Header.GetRevision(), nil
}

// ask asks for one transaction, once.
func (s *Settings) ask(ctx context.Context, wanted []clientv3.Cmp, then clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return s.cfg.Client.Txn(ctx).If(wanted...).Then(then).Commit()
}
