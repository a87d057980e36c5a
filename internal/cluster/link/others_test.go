package link_test

import (
	"context"
	"net"
	"testing"
	"time"

	"pushrelay/internal/cluster/link"
	"pushrelay/internal/faultproxy"
)

// TestOthers: who answers says whether it hears a majority; of who does not it is known that it runs no more, or nothing.
func TestOthers(t *testing.T) {
	c := newCluster(t, "a", "bb", "ccc")
	a := c.members["a"]
	want := func(what string, answered, able int) {
		t.Helper()
		eventually(t, what, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			position, gotAnswered, gotAble := a.Others(ctx)
			return position == 30 && gotAnswered == answered && gotAble == able
		})
	}
	want("both answer, and hear nobody", 2, 0)
	c.members["ccc"].quorum.Store(true)
	want("one hears a majority", 2, 1)
	c.members["bb"].proxy.Set(faultproxy.Conditions{Freeze: faultproxy.Both})
	want("of one nothing is known", 1, 2)
	c.members["bb"].proxy.Close()
	want("nobody can dial it, and it has dialled", 1, 2)
	c.members["bb"].stop()
	want("it runs no more", 1, 1)
}

// TestKnock: who listens is told from a host that says that nobody does, and from one that says nothing.
func TestKnock(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	want := func(what, address string, listens, refused bool) {
		t.Helper()
		if gotListens, gotRefused := link.Knock(t.Context(), address); gotListens != listens || gotRefused != refused {
			t.Errorf("%s: listens %v, refused %v", what, gotListens, gotRefused)
		}
	}
	want("somebody is there", address, true, false)
	l.Close()
	want("nobody is there", address, false, true)
	want("a host that cannot be found", "nowhere.invalid:1", false, false)
}
