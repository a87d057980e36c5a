package tunnel_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// TestDelaysAreClamped: whatever a relay asks for is within bounds, and what it cannot mean is its error.
func TestDelaysAreClamped(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for name, tt := range map[string]struct {
		asked           *durationpb.Duration
		session, change time.Duration
		fault           bool
	}{
		"nothing":             {nil, 0, 0, false},
		"zero":                {&durationpb.Duration{}, 0, 100 * time.Millisecond, false},
		"a nanosecond":        {durationpb.New(1), 1, 100 * time.Millisecond, false},
		"usual":               {durationpb.New(15 * time.Second), 15 * time.Second, 15 * time.Second, false},
		"the most":            {durationpb.New(5 * time.Minute), 5 * time.Minute, 5 * time.Minute, false},
		"a century":           {durationpb.New(century), 5 * time.Minute, 5 * time.Minute, false},
		"negative":            {durationpb.New(-1), 0, 100 * time.Millisecond, true},
		"very negative":       {&durationpb.Duration{Seconds: math.MinInt64}, 0, 100 * time.Millisecond, true},
		"overflowing":         {&durationpb.Duration{Seconds: math.MaxInt64}, 5 * time.Minute, 5 * time.Minute, true},
		"three hundred years": {&durationpb.Duration{Seconds: 3 * int64(century/time.Second)}, 5 * time.Minute, 5 * time.Minute, true},
		"of two minds":        {&durationpb.Duration{Seconds: 1, Nanos: -1}, time.Second - 1, time.Second - 1, true},
		"too many nanos":      {&durationpb.Duration{Nanos: math.MaxInt32}, math.MaxInt32, math.MaxInt32, true},
	} {
		session, ofSession := tunnel.SessionDelay(&relayv1.SessionEnd{RetryAfter: tt.asked})
		change, ofChange := tunnel.ChangeDelay(&relayv1.Later{RetryAfter: tt.asked})
		if session != tt.session || change != tt.change || (ofSession != nil) != tt.fault || (ofChange != nil) != tt.fault {
			t.Errorf("%s: %v (%v) and %v (%v), want %v and %v, a fault: %v", name, session, ofSession, change, ofChange, tt.session, tt.change, tt.fault)
		}
		if tt.fault && !strings.Contains(ofSession.Error(), "want 0 s to 5m0s") {
			t.Errorf("%s: %v", name, ofSession)
		}
		verdict := tunnel.VerdictFromProto(&relayv1.PushResponse{Verdict: &relayv1.PushResponse_Later{Later: &relayv1.Later{RetryAfter: tt.asked}}})
		if verdict.RetryAfter != tt.change {
			t.Errorf("%s: the outcome has %v, want %v", name, verdict.RetryAfter, tt.change)
		}
	}
	if d, err := tunnel.SessionDelay(nil); d != 0 || err != nil {
		t.Errorf("no end: %v, %v", d, err)
	}
}
