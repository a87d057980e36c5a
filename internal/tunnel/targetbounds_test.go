package tunnel_test

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// announced is a part of a set with one target.
func announced(spoil func(*relayv1.Target)) *relayv1.TargetSet {
	one := &relayv1.Target{Name: "t", Job: "j", Instance: "i", Address: "h:1", Scheme: "http", MetricsPath: "/metrics"}
	if spoil != nil {
		spoil(one)
	}
	return &relayv1.TargetSet{Targets: []*relayv1.Target{one}}
}

// say sends a part of a set.
func (a *rawAgent) say(part *relayv1.TargetSet) {
	a.t.Helper()
	if err := a.stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: part}}); err != nil {
		a.t.Fatal(err)
	}
}

// echo answers a heartbeat that the test did not read, so that the session lives on however long the test takes.
func (a *rawAgent) echo() {
	a.t.Helper()
	echo := &relayv1.HeartbeatEcho{SentAt: timestamppb.Now(), EchoedAt: timestamppb.Now()}
	if err := a.stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_HeartbeatEcho{HeartbeatEcho: echo}}); err != nil {
		a.t.Fatal(err)
	}
}

// total returns the value of a counter of the relay.
func (h *house) total(name string) float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	h.t.Fatalf("there is no %s", name)
	return 0
}

// settled waits until the relay has refused so many sets, and returns the name of the agent's first target.
func (h *house) settled(refused float64) string {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%v sets are refused", refused), func() bool { return h.total("relay_target_sets_refused_total") == refused })
	for _, a := range h.registry.Agents() {
		for _, t := range a.Targets {
			return t.Name
		}
	}
	return ""
}

const refusal = "agent announced targets that cannot be"

// A set that passes a bound is refused, changes nothing, and is said once, in the hello as later.
func TestSetsBeyondBoundsAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("it sends many large sets")
	}
	label := func(n, bytes int) []*relayv1.Label {
		var out []*relayv1.Label
		for i := range n {
			out = append(out, &relayv1.Label{Name: fmt.Sprintf("l%06d", i), Value: strings.Repeat("x", bytes)})
		}
		return out
	}
	for name, tt := range map[string]struct {
		spoil func(*relayv1.Target)
		says  string
	}{
		"labels of 64 KiB": {func(x *relayv1.Target) { x.Labels = label(64, 1017) }, "bytes of texts and labels"},
		"a long label":     {func(x *relayv1.Target) { x.Labels = label(1, 900_000) }, "bytes of texts and labels"},
		"many labels":      {func(x *relayv1.Target) { x.Labels = label(10_000, 0) }, "10000 labels"},
		"a long label name": {func(x *relayv1.Target) {
			x.Labels = []*relayv1.Label{{Name: strings.Repeat("x", 900_000)}}
		}, "bytes of texts and labels"},
		"a long job":          {func(x *relayv1.Target) { x.Job = strings.Repeat("x", 900_000) }, "bytes of texts and labels"},
		"a long scheme":       {func(x *relayv1.Target) { x.Scheme = strings.Repeat("x\n", 8000) }, "scheme is"},
		"a long path":         {func(x *relayv1.Target) { x.MetricsPath = strings.Repeat("x\n", 8000) }, "metrics path"},
		"a long address":      {func(x *relayv1.Target) { x.Address = strings.Repeat("x\n", 8000) }, "address"},
		"the directory":       {func(x *relayv1.Target) { x.Name = "." }, "target name"},
		"the directory above": {func(x *relayv1.Target) { x.Name = ".." }, "target name"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, pusherFunc(noPushes))
			greeting := hello()
			greeting.Targets = announced(tt.spoil)
			_, a := h.greet("site", greeting)
			if got := h.settled(1); got != "" {
				t.Errorf("the hello's target %q is known", got)
			}
			a.say(announced(func(x *relayv1.Target) { x.Name = "good" }))
			eventually(t, "a good set is taken", func() bool { return h.settled(1) == "good" })
			for range 20 {
				a.say(announced(tt.spoil))
			}
			if got := h.settled(21); got != "good" {
				t.Errorf("the target is %q, want the earlier one", got)
			}
			lines := h.log.with(refusal)
			if len(lines) != 2 || !strings.Contains(lines[0], tt.says) { // after the good one it is another change
				t.Errorf("%d lines, want one before the good set and one after it: %.2000q", len(lines), lines)
			}
			for _, line := range lines {
				if len(line) > 2000 || !strings.Contains(line, "agent=site") {
					t.Errorf("a line of %d bytes: %.200s", len(line), line)
				}
			}
		})
	}
}

// Other reasons each time are no way to fill the log.
func TestRefusedSetsFillNoLog(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	_, a := h.greet("site", hello())
	for i := range 15 {
		a.say(announced(func(x *relayv1.Target) { x.Job, x.Name = "", fmt.Sprint(i) }))
	}
	h.settled(15)
	if lines := h.log.with(refusal); len(lines) == 0 || len(lines) > 5 {
		t.Errorf("%d lines, want a few:\n%.2000q", len(lines), lines)
	}
}

// A refused set costs nothing, neither when it is refused nor before: 6,000 targets with 64 KB of labels each were 3.2 GB.
func TestHugeSetCostsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 400 MB")
	}
	h := newHouse(t, pusherFunc(noPushes))
	_, a := h.greet("site", hello())
	value := strings.Repeat("x", 1000)
	before := heapAfterGC()
	for i, huge := range []struct{ targets, labels int }{
		{6000, 64}, // each of them is too large
		{600, 15},  // all of them together are
		{30000, 0}, // too many
	} {
		part := &relayv1.TargetSet{More: true}
		for n := range huge.targets {
			one := announced(func(x *relayv1.Target) { x.Name = fmt.Sprint(n) }).GetTargets()[0]
			for l := range huge.labels {
				one.Labels = append(one.Labels, &relayv1.Label{Name: fmt.Sprintf("l%02d", l), Value: value})
			}
			if part.Targets = append(part.Targets, one); len(part.GetTargets())*(huge.labels+5) >= 900 {
				a.say(part)
				a.echo()
				part = &relayv1.TargetSet{More: true}
			}
		}
		// The relay takes one event after the other: once it knows of this one it has had all parts.
		waiting := &relayv1.AttachRequest_Spool{Spool: &relayv1.SpoolState{PendingChanges: uint64(i + 1)}}
		if err := a.stream.Send(&relayv1.AttachRequest{Event: waiting}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the relay has had all parts", func() bool { return h.registry.Agents()[0].SpoolPending == uint64(i+1) })
		if grown := int64(heapAfterGC()) - int64(before); grown > 3<<20 {
			t.Errorf("%d targets with %d labels: %d KiB are kept of a set that is refused", huge.targets, huge.labels, grown>>10)
		}
		a.say(announced(nil))
		if got := h.settled(float64(i + 1)); got != "" {
			t.Errorf("target %q is known", got)
		}
	}
	if lines := h.log.with(refusal); len(lines) > 3 {
		t.Errorf("%d lines: %.2000q", len(lines), lines)
	}
}

func heapAfterGC() uint64 {
	runtime.GC()
	runtime.GC() // what pools keep goes with the second one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Times out of bounds are brought within them, and counted.
func TestTimesAreClamped(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	_, a := h.greet("site", hello())
	clamped := 0.0
	for i, tt := range []struct{ interval, timeout, wantInterval, wantTimeout time.Duration }{
		{time.Minute, time.Second, time.Minute, time.Second},
		{time.Millisecond, time.Millisecond, time.Second, 10 * time.Millisecond},
		{-time.Second, 0, time.Second, 0},
		{time.Hour * 24 * 365, time.Hour * 48, 24 * time.Hour, 24 * time.Hour},
		{time.Second, time.Minute, time.Second, time.Second},
		{0, 0, 0, 0},
	} {
		name := fmt.Sprint("t", i)
		a.say(announced(func(x *relayv1.Target) {
			x.Name = name
			x.ScrapeInterval, x.ScrapeTimeout = durationpb.New(tt.interval), durationpb.New(tt.timeout)
		}))
		eventually(t, name+" is known", func() bool { return h.settled(0) == name })
		got := h.registry.Agents()[0].Targets[0]
		if got.ScrapeInterval != tt.wantInterval || got.ScrapeTimeout != tt.wantTimeout {
			t.Errorf("%s, %s are announced as %s, %s", tt.interval, tt.timeout, got.ScrapeInterval, got.ScrapeTimeout)
		}
		if cmp.Or(tt.interval-tt.wantInterval, tt.timeout-tt.wantTimeout) != 0 {
			clamped++
		}
	}
	if got := h.total("relay_target_times_clamped_total"); got != clamped {
		t.Errorf("%v targets are counted, want %v", got, clamped)
	}
}
