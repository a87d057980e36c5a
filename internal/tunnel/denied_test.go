package tunnel_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// TestDeniedTravels: within bounds, whatever a relay says.
func TestDeniedTravels(t *testing.T) {
	for name, tt := range map[string]struct{ sent, want tunnel.Denied }{
		"none":      {tunnel.Denied{}, tunnel.Denied{}},
		"some":      {tunnel.Denied{Count: 2, Targets: []string{"a", "b"}, Message: "policy.yml:2: no"}, tunnel.Denied{Count: 2, Targets: []string{"a", "b"}, Message: "policy.yml:2: no"}},
		"many":      {tunnel.Denied{Count: 20_000, Targets: []string{"1", "2", "3", "4", "5", "6", "7"}}, tunnel.Denied{Count: 20_000, Targets: []string{"1", "2", "3", "4", "5"}}},
		"long ones": {tunnel.Denied{Count: 1, Targets: []string{strings.Repeat("x", 2000)}, Message: strings.Repeat("y", 5000)}, tunnel.Denied{Count: 1, Targets: []string{strings.Repeat("x", 197) + "…"}, Message: strings.Repeat("y", 1021) + "…"}},
		"lines":     {tunnel.Denied{Count: 1, Targets: []string{"a\nb"}, Message: "c\nd"}, tunnel.Denied{Count: 1, Targets: []string{"a b"}, Message: "c d"}},
	} {
		if diff := cmp.Diff(tt.want, tunnel.DeniedFromProto(tunnel.DeniedToProto(tt.sent))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := tunnel.DeniedFromProto(&relayv1.TargetsDenied{Targets: []string{"x"}, Message: "y"}); got.String() != "" {
		t.Errorf("none of them is %q", got)
	}
	if got := (tunnel.Denied{Count: 7, Targets: []string{"a", "b"}, Message: "no"}).String(); got != "7 (a, b, …): no" {
		t.Errorf("some are told as %q", got)
	}
}

// TestDenialsOfEvilRelays: a relay that says all the time that others of the agent's targets are denied fills neither its log nor its memory.
func TestDenialsOfEvilRelays(t *testing.T) {
	e := &evilRelay{}
	for i := range 1000 {
		e.denied = append(e.denied, &relayv1.TargetsDenied{Count: math.MaxUint32, Targets: []string{strings.Repeat("x", 1000), fmt.Sprint(i)}, Message: "no\n" + strings.Repeat("z", 10_000)})
	}
	under(t, e, func(t *testing.T, agent *dialled, log *logLines) {
		time.Sleep(10 * time.Second)
		if lines := log.with("does not list some targets"); len(lines) == 0 || len(lines) > 5 {
			t.Errorf("the log has %d lines of it, want 1 to 5", len(lines))
		}
		if d := agent.Status().Denied; d.Count != math.MaxUint32 || len(d.String()) > 3<<10 {
			t.Errorf("the status has %d bytes of it", len(d.String()))
		}
	})
}

// TestDeniedIsSaidOnce: over sessions, as long as it is the same.
func TestDeniedIsSaidOnce(t *testing.T) {
	e := &evilRelay{denied: []*relayv1.TargetsDenied{{Count: 1, Targets: []string{"t"}, Message: "no"}, {Count: 1, Targets: []string{"t"}, Message: "no"}}, end: &relayv1.SessionEnd{}}
	under(t, e, func(t *testing.T, agent *dialled, log *logLines) {
		time.Sleep(5 * time.Minute)
		if lines := log.with("does not list some targets", "count=1", "targets=t", "reason=no"); len(lines) != 1 {
			t.Errorf("it is said %d times, want once", len(lines))
		}
		if attaches, _ := e.counts(); len(attaches) < 2 {
			t.Errorf("there were %d sessions", len(attaches))
		}
		if d := agent.Status().Denied; d.Count != 0 {
			t.Errorf("without a session it is told all the same: %v", d)
		}
	})
}
