package membership

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
)

// TestRollIsBounded: no more members are let in than are good for something; one that never started makes room for another of its name (C18).
func TestRollIsBounded(t *testing.T) {
	at := func(name string) Addresses { return Addresses{Peer: name + ":1", Link: name + ":2", Web: name + ":3"} }
	r := &roll{}
	for i := range MaxMembers {
		name := fmt.Sprint("m", i)
		e := entry{Listed: Listed{Name: name, Addresses: at(name)}, listed: true, engine: &etcdserverpb.Member{Name: name, PeerURLs: []string{peerURL(at(name).Peer)}}}
		if i == 0 {
			e.engine.Name = "" // it was let in, and has not started
		}
		if err := r.check("new", at("new")); err != nil {
			t.Errorf("beside %d members another one is refused: %v", i, err)
		}
		r.entries = append(r.entries, e)
	}
	err := r.check("new", at("new"))
	if refused, ok := errors.AsType[*refusal](err); !ok || refused.code != codes.FailedPrecondition {
		t.Errorf("beside %d members another one: %v", MaxMembers, err)
	}
	if err := r.check("m0", at("elsewhere")); err != nil {
		t.Errorf("in the place of one that never started: %v", err)
	}
}
