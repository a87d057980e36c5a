package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	relayv1 "pushrelay/internal/gen/relay/v1"
	storagev1 "pushrelay/internal/gen/storage/v1"
)

// roll is who is a member as etcd has it, by its own list and by ours, put together. One that runs by itself has members of its own, which are nobody's
// affair here: then there is our list alone.
type roll struct {
	entries []entry // ours, and those that only etcd has, sorted by name
}

// entry is one member.
type entry struct {
	Listed

	listed   bool                 // in our list
	revision int64                // of its key in it
	created  int64                // the revision at which that began
	engine   *etcdserverpb.Member // nil for one that etcd does not have, and for all if it runs by itself
	alone    bool                 // etcd runs by itself
}

// started says that it has run: only then its etcd has a name, or our list an incarnation.
func (e *entry) started() bool {
	if e.alone {
		return e.Incarnation != Incarnation{}
	}
	return e.engine != nil && e.engine.Name != ""
}

// peer returns where its etcd is dialled.
func (e *entry) peer() string {
	if e.engine == nil {
		return e.Peer
	}
	return addressOf(e.engine.PeerURLs)
}

func (d *Door) list(ctx context.Context) (*roll, error) {
	return readRoll(ctx, d.cfg.Client, d.cfg.Dir)
}

// readRoll reads both lists.
func readRoll(ctx context.Context, client *clientv3.Client, dir *Dir, options ...clientv3.OpOption) (*roll, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var engines []*etcdserverpb.Member
	if dir.hasOwnEtcd() {
		list, err := client.MemberList(ctx, options...)
		if err != nil {
			return nil, err
		}
		engines = list.Members
	}
	got, err := client.Get(ctx, dir.keys().members(), append(options, clientv3.WithPrefix())...)
	if err != nil {
		return nil, err
	}
	r := &roll{}
	for _, kv := range got.Kvs {
		listed, err := listedOf(kv.Value)
		if err != nil {
			return nil, err
		}
		r.entries = append(r.entries, entry{Listed: listed, listed: true, revision: kv.ModRevision, created: kv.CreateRevision, alone: !dir.hasOwnEtcd()})
	}
	r.add(engines)
	return r, nil
}

// add puts etcd's own list in.
func (r *roll) add(engines []*etcdserverpb.Member) {
	for _, engine := range engines {
		i := slices.IndexFunc(r.entries, func(e entry) bool {
			return e.engine == nil && (e.EngineID == engine.ID || e.EngineID == 0 && e.Peer == addressOf(engine.PeerURLs))
		})
		if i < 0 {
			r.entries = append(r.entries, entry{Listed: Listed{Name: engine.Name, Addresses: Addresses{Peer: addressOf(engine.PeerURLs)}, EngineID: engine.ID}})
			i = len(r.entries) - 1
		}
		r.entries[i].engine = engine
	}
}

// get returns the member of a name in our list.
func (r *roll) get(name string) *entry {
	i := slices.IndexFunc(r.entries, func(e entry) bool { return e.listed && e.Name == name })
	if i < 0 {
		return nil
	}
	return &r.entries[i]
}

// check returns an error unless a member of that name may come in at these addresses.
func (r *roll) check(name string, at Addresses) error {
	others := 0
	for i := range r.entries {
		switch e := &r.entries[i]; {
		case e.listed && e.Name == name:
			if e.started() {
				return refusef(codes.AlreadyExists, "there is a member %q already. If it is lost: relay-server cluster remove %s on a member, and join again with a new token", name, name)
			}
		case !e.listed && !e.started(): // a join that was cut short, see takeOver
			if e.Peer != at.Peer {
				others++
			}
		case e.Peer == at.Peer && !e.alone || e.listed && e.Link == at.Link && !e.Witness:
			return refusef(codes.AlreadyExists, "member %q has the same address: each has its own", e.Name)
		default:
			others++
		}
	}
	if others >= MaxMembers {
		return refusef(codes.FailedPrecondition, "the cluster has %d members, and more make it slower and no safer: remove one first", others)
	}
	return nil
}

// with returns where all members are dialled, with a new one.
func (r *roll) with(name string, at Addresses) []*relayv1.MemberAddress {
	all := []*relayv1.MemberAddress{{Name: name, PeerAddress: at.Peer, LinkAddress: at.Link}}
	for _, e := range r.entries {
		if e.Name == name || !e.started() {
			continue // a learner that was never started was taken over, or is another one's affair
		}
		one := &relayv1.MemberAddress{Name: e.Name, PeerAddress: e.peer()}
		if !e.Witness {
			one.LinkAddress = e.Link
		}
		all = append(all, one)
	}
	return all
}

// add makes a learner of a new member, if etcd runs within, and lists it. A learner of the name, or of the address, that never started is taken over.
func (d *Door) add(ctx context.Context, r *roll, name string, at Addresses, witness bool) error {
	revision := int64(0)
	for i := range r.entries {
		e := &r.entries[i]
		if e.listed && e.Name == name {
			revision = e.revision
		}
		if e.engine == nil || e.started() || e.listed && e.Name != name || !e.listed && e.Peer != at.Peer {
			continue
		}
		// Its id goes with it: whoever had it, and starts late, is none.
		if _, err := d.cfg.Client.MemberRemove(ctx, e.engine.ID); err != nil {
			return explainChange(err)
		}
	}
	member := &storagev1.ClusterMember{Name: name, PeerAddress: at.Peer, LinkAddress: at.Link, WebAddress: at.Web, Witness: witness}
	if d.cfg.Dir.hasOwnEtcd() {
		added, err := d.cfg.Client.MemberAddAsLearner(ctx, []string{peerURL(at.Peer)})
		if err != nil {
			return explainChange(err)
		}
		member.EngineId = added.Member.ID
	}
	value, err := proto.Marshal(member)
	if err != nil {
		return err
	}
	key := d.cfg.Dir.keys().member(name)
	put, err := d.cfg.Client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(value))).Commit()
	if err == nil && !put.Succeeded {
		err = refusef(codes.Unavailable, "another member is being let in under the same name: ask again in a while")
	}
	return err
}

// explainChange says why etcd does not change its members.
func explainChange(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrTooManyLearners):
		return refusef(codes.Unavailable, "another new member is catching up: this one is let in after it (relay-server cluster status; relay-server cluster remove, if that one never comes)")
	case errors.Is(err, rpctypes.ErrUnhealthy):
		return refusef(codes.Unavailable, "not all members of the cluster have heard one another for some seconds: this one is let in once they do")
	default:
		return fmt.Errorf("adding a member to etcd: %w", err)
	}
}
