package tunnel_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

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
			got := target.Set{Targets: []target.Target{}}
			parts := tunnel.TargetSets(want)
			for i, part := range parts {
				got.Targets = append(got.Targets, tunnel.Targets(part)...)
				got.Completeness = tunnel.Completeness(part)
				if part.GetMore() != (i+1 < len(parts)) {
					t.Errorf("part %d of %d says more = %t", i+1, len(parts), part.GetMore())
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d targets (-want +got):\n%s", n, diff)
			}
		}
	}
	if got := tunnel.Completeness(&relayv1.TargetSet{}); got != target.Unsaid {
		t.Errorf("a set of an earlier agent is %d", got)
	}
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
