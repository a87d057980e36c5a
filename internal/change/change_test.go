package change_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
)

// TestKinds: what the table says of every kind, as clients of HTTP, agents and metrics hear it, and the way back of a verdict.
func TestKinds(t *testing.T) {
	tests := map[change.Kind]struct {
		status  int
		label   string
		verdict change.Verdict
		arrives change.Kind // at the agent
	}{
		change.Applied:      {200, "", change.Taken, change.Applied},
		change.Unchecked:    {202, "", change.Taken, change.Applied}, // a field of the verdict tells
		change.Spooled:      {202, "", change.Taken, change.Applied},
		change.Invalid:      {400, "invalid", change.Rejected, change.Invalid},
		change.Unsupported:  {400, "invalid", change.Rejected, change.Unsupported},
		change.Inconsistent: {400, "inconsistent", change.Rejected, change.Inconsistent},
		change.Forbidden:    {403, "forbidden", change.Rejected, change.Forbidden},
		change.TooLarge:     {413, "too_large", change.Rejected, change.TooLarge},
		change.Superseded:   {409, "superseded", change.Rejected, change.Superseded},
		change.Changed:      {409, "changed", change.Rejected, change.Invalid}, // none has a condition
		change.Reused:       {422, "reused", change.Rejected, change.Invalid},  // no agent hears of it
		change.Full:         {429, "full", change.Later, change.Full},
		change.Unavailable:  {503, "unavailable", change.Later, change.Unavailable},
		change.NotWritable:  {503, "unavailable", change.Later, change.NotWritable},
		change.Stalled:      {408, "unavailable", change.Later, change.Unavailable},
		change.NotCurrent:   {503, "unavailable", change.Later, change.NotCurrent},
		change.OutOfTurn:    {503, "unavailable", change.Later, change.Unavailable},
		change.TimedOut:     {503, "timeout", change.Later, change.Unavailable},
		change.Canceled:     {503, "canceled", change.Later, change.Unavailable},
	}
	if len(tests) != len(change.Kinds()) {
		t.Errorf("%d kinds are looked at, of %d", len(tests), len(change.Kinds()))
	}
	for kind, tt := range tests {
		verdict, reason := kind.Verdict()
		if kind.Status() != tt.status || kind.Label() != tt.label || verdict != tt.verdict || kind.Error() == "" {
			t.Errorf("%v: status %d, label %q, verdict %d", kind, kind.Status(), kind.Label(), verdict)
		}
		if got := change.KindOf(verdict, reason); got != tt.arrives {
			t.Errorf("%v arrives as %v, want %v", kind, got, tt.arrives)
		}
		o := change.Outcome{Kind: kind, Detail: "x"}
		taken := tt.verdict == change.Taken
		if o.IsTaken() != taken || o.IsFinal() != (tt.verdict != change.Later) || (o.Err() == nil) != taken || !taken && !errors.Is(o.Err(), kind) {
			t.Errorf("%v: taken %v, final %v, error %v", kind, o.IsTaken(), o.IsFinal(), o.Err())
		}
	}
	for verdict, want := range map[change.Verdict]change.Kind{change.Taken: change.Applied, change.Rejected: change.Invalid, change.Later: change.Unavailable, 0: change.Unavailable} {
		for _, reason := range []int32{-1, 1000} {
			if got := change.KindOf(verdict, reason); got != want {
				t.Errorf("verdict %d with a reason that is not known is %v, want %v", verdict, got, want)
			}
		}
	}
}

// TestSpecialKinds: what a kind is a special one of.
func TestSpecialKinds(t *testing.T) {
	for _, kind := range change.Kinds() {
		verdict, _ := kind.Verdict()
		if got, want := errors.Is(kind, change.Unavailable), verdict == change.Later && kind != change.Full; got != want {
			t.Errorf("%v is unavailable: %v", kind, got)
		}
		if got, want := errors.Is(kind, change.Invalid), kind == change.Invalid || kind == change.Unsupported; got != want {
			t.Errorf("%v is invalid: %v", kind, got)
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	refused := &change.Outcome{Kind: change.Full, Detail: "full", RetryAfter: time.Second}
	tests := []struct {
		err  error
		want change.Outcome
	}{
		{nil, change.Outcome{Kind: change.Applied}},
		{refused, *refused},
		{fmt.Errorf("around: %w", refused), change.Outcome{Kind: change.Full, Detail: "around: full", RetryAfter: time.Second}},
		{context.DeadlineExceeded, change.Outcome{Kind: change.TimedOut, Detail: "context deadline exceeded"}},
		{fmt.Errorf("waiting: %w", context.Canceled), change.Outcome{Kind: change.Canceled, Detail: "waiting: context canceled"}},
		{errors.New("disk"), change.Outcome{Kind: change.Unavailable, Detail: "disk"}},
	}
	for _, tt := range tests {
		if got := change.OutcomeOf(tt.err); got != tt.want {
			t.Errorf("OutcomeOf(%v) = %+v, want %+v", tt.err, got, tt.want)
		}
	}
}

// TestOperations: which operations there are, by their numbers on disk, and which of them a push may ask for.
func TestOperations(t *testing.T) {
	for i, tt := range []struct {
		name             string
		isPush, takeBody bool
	}{
		{name: "operation 0"},
		{"replace", true, true},
		{"merge", true, true},
		{"delete", true, false},
		{"fail", true, false},
		{name: "wipe"},
		{name: "mark"},
		{name: "forget"},
		{name: "expire"},
		{"merge series", true, true},
		{"add", true, true},
		{name: "operation 11"},
	} {
		if o := change.Operation(i); o.String() != tt.name || o.IsPush() != tt.isPush || o.HasBody() != tt.takeBody {
			t.Errorf("%d: %v, a push: %v, with a body: %v", i, o, o.IsPush(), o.HasBody())
		}
	}
}

// TestFailedText: it is one line of UTF-8 with a bound, and stays what it is when it is looked at again.
func TestFailedText(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"a plain one", "exit status 2: ünïcode", "exit status 2: ünïcode"},
		{"blanks alone", " \t\r\n", ""},
		{"lines and a terminal's controls", " a\r\nb\x1b[2Jc\x00\u0085\u2028d\n", "a  b [2Jc   d"},
		{"no UTF-8", "a\xffb", "a?b"},
		{"as long as may be", strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{"longer", strings.Repeat("x", 1025), strings.Repeat("x", 1021) + "…"},
		{"cut within a character", strings.Repeat("x", 1020) + "üüüüü", strings.Repeat("x", 1020) + "…"},
	} {
		got := change.FailedText(tt.text)
		if got != tt.want || len(got) > change.MaxFailedBytes || change.FailedText(got) != got {
			t.Errorf("%s: %q (%d bytes), want %q", tt.name, got, len(got), tt.want)
		}
	}
}

// TestAddedBy: which pushes a rule makes ones that add, and that the push itself stays as it is (L11).
func TestAddedBy(t *testing.T) {
	sum, all := &addup.Rule{Gauges: addup.Sum}, &addup.Rule{Gauges: addup.Max, Put: true}
	for _, tt := range []struct {
		operation change.Operation
		rule      *addup.Rule
		want      change.Operation
		gauges    addup.Gauges
	}{
		{change.Merge, nil, change.Merge, addup.Last},
		{change.Merge, sum, change.Add, addup.Sum},
		{change.Add, nil, change.Add, addup.Last},
		{change.Add, sum, change.Add, addup.Sum},
		{change.Replace, sum, change.Replace, addup.Last},
		{change.Replace, all, change.Add, addup.Max},
		{change.MergeSeries, all, change.MergeSeries, addup.Last},
		{change.Delete, all, change.Delete, addup.Last},
		{change.Fail, all, change.Fail, addup.Last},
	} {
		c := &change.Change{Operation: tt.operation, Failed: "x"}
		got := c.AddedBy(tt.rule)
		if got.Operation != tt.want || got.Gauges != tt.gauges || got.Failed != "x" || c.Operation != tt.operation || c.Gauges != addup.Last {
			t.Errorf("%v by %+v: %v with %v, want %v with %v", tt.operation, tt.rule, got.Operation, got.Gauges, tt.want, tt.gauges)
		}
	}
}
