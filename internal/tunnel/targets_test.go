package tunnel_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel"
)

// What an agent knows of its list travels with the last part of it; a list of an earlier agent says nothing.
func TestTargetSetsTravel(t *testing.T) {
	for _, n := range []int{0, 1, tunnel.TargetsPerMessage, tunnel.TargetsPerMessage + 1, 3 * tunnel.TargetsPerMessage} {
		for _, c := range []target.Completeness{target.Unsaid, target.Complete, target.Incomplete} {
			want := target.Set{Targets: []target.Target{}, Completeness: c}
			for i := range n {
				want.Targets = append(want.Targets, target.Target{Name: fmt.Sprint(i)})
			}
			if diff := cmp.Diff(want, travel(t, want), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%d targets (-want +got):\n%s", n, diff)
			}
		}
	}
	if got, _, _ := new(tunnel.TargetCollector).Take(&relayv1.TargetSet{}); got.Completeness != target.Unsaid {
		t.Errorf("a set of an earlier agent is %d", got.Completeness)
	}
	large := target.Set{}
	for i := range 250 { // 4 MB, the largest that may be; in parts of 200 it would pass the bound of a message
		large.Targets = append(large.Targets, target.Target{Name: fmt.Sprint(i), Labels: []target.Label{{Name: "l", Value: strings.Repeat("x", 16000)}}})
	}
	if diff := cmp.Diff(large, travel(t, large)); diff != "" {
		t.Errorf("a large set (-want +got):\n%s", diff)
	}
}

// travel returns a set as it arrives.
func travel(t *testing.T, set target.Set) target.Set {
	t.Helper()
	var collector tunnel.TargetCollector
	parts := tunnel.TargetSets(set)
	for i, part := range parts {
		if size := proto.Size(part); size > tunnel.MaxMessageBytes {
			t.Errorf("part %d has %d bytes", i+1, size)
		}
		if i+1 == len(parts) {
			break
		}
		if !part.GetMore() {
			t.Errorf("part %d of %d says that it is the last", i+1, len(parts))
		}
		collector.Add(part)
	}
	got, clamped, err := collector.Take(parts[len(parts)-1])
	if err != nil || clamped != 0 || parts[len(parts)-1].GetMore() {
		t.Errorf("%d targets: %v, %d clamped, the last part says more = %t", len(set.Targets), err, clamped, parts[len(parts)-1].GetMore())
	}
	return got
}

// A list that lacks targets takes none away, in the hello of another process or later.
func TestListsThatLackTargetsTakeNoneAway(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	link, stop := h.attach("site", answer(nil))
	listed := func(want string) func() bool {
		return func() bool {
			var got string
			for _, a := range h.registry.Agents() {
				for _, target := range a.Targets {
					got += target.Name
					if !target.ListedUntil.IsZero() {
						got += "!"
					}
				}
			}
			return got == want
		}
	}
	link.SetTargets(target.Set{Completeness: target.Incomplete})
	eventually(t, "the target stays listed", listed("t!"))
	link.SetTargets(target.Set{Completeness: target.Complete})
	eventually(t, "the target is gone", listed(""))
	stop()
	h.attach("site", answer(nil)) // another process, whose list is complete
	eventually(t, "the target is there again", listed("t"))
}
