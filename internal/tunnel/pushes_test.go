package tunnel_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
	"pushrelay/internal/tunnel"
)

// origin is one that can be.
func origin(sequence uint64) *change.Origin {
	return &change.Origin{Journal: [16]byte{1}, Sequence: sequence, Digest: change.Digest{2}}
}

// TestChangesTravel sends every kind of push there and back.
func TestChangesTravel(t *testing.T) {
	key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "k", Value: ""}))
	for _, want := range []*change.Change{
		{Operation: change.Replace, Key: key, Format: exposition.Text004, Body: []byte("m 1\n"), MayBeHidden: true},
		{Operation: change.Merge, Key: key, Format: exposition.ProtobufDelimited, Body: []byte("x"), Origin: origin(1)},
		{Operation: change.Merge, Key: key, Body: []byte("m 1\n"), Life: declared(t, lifetime.Texts{TTL: "72h", Every: "0", Grace: "none"}), Failed: "exit status 2"},
		{Operation: change.Replace, Key: key, Life: declared(t, lifetime.Texts{Schedule: "TZ=Europe/Berlin 15 3 * * *"})},
		{Operation: change.Delete, Key: key, Origin: origin(1 << 63)},
		{Operation: change.Fail, Key: key, Origin: origin(7)},
	} {
		want.At = time.Now().Add(-time.Minute)
		got, err := tunnel.ChangeFromProto(tunnel.ChangeToProto(want), time.Now(), want.Body, metric.LegacyNames)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Second), cmp.Comparer(func(a, b grouping.Key) bool { return a == b })); diff != "" {
			t.Errorf("%v (-sent +received):\n%s", want.Operation, diff)
		}
	}
}

func declared(t *testing.T, texts lifetime.Texts) lifetime.Declaration {
	t.Helper()
	return must[lifetime.Declaration](t)(lifetime.Parse(texts))
}

// TestLivesOfOperationsWithoutBody: what only a body can have is neither sent nor read.
func TestLivesOfOperationsWithoutBody(t *testing.T) {
	key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "j"}))
	for _, op := range []change.Operation{change.Delete, change.Fail} {
		begin := tunnel.ChangeToProto(&change.Change{Operation: op, Key: key, Life: declared(t, lifetime.Texts{TTL: "1h"}), Failed: "x"})
		if begin.GetLife() != nil || begin.GetFailed() != "" {
			t.Errorf("%v is sent as %v", op, begin)
		}
		begin.Life, begin.Failed = &relayv1.Life{Ttl: "tomorrow"}, "x"
		if r, err := tunnel.ChangeFromProto(begin, time.Now(), nil, metric.LegacyNames); err != nil || r.Refused != nil || !r.Life.IsZero() || r.Failed != "" {
			t.Errorf("%v is read as %+v, %v", op, r, err)
		}
	}
}

// TestFailuresAreMended: what an agent says of a failure is made what it may be, and is no reason to refuse a push.
func TestFailuresAreMended(t *testing.T) {
	begin := &relayv1.ChangeBegin{
		Operation: relayv1.Operation_OPERATION_MERGE, Format: relayv1.BodyFormat_BODY_FORMAT_TEXT, GroupingKey: []*relayv1.Label{{Name: "job", Value: "j"}},
		Failed: "\xff\n" + strings.Repeat("x", 1<<20),
	}
	r, err := tunnel.ChangeFromProto(begin, time.Now(), nil, metric.LegacyNames)
	if err != nil || r.Refused != nil || len(r.Failed) > change.MaxFailedBytes || !strings.HasPrefix(r.Failed, "? xxx") {
		t.Errorf("read as %.100q, %v, %v", r.Failed, r.Refused, err)
	}
}

// TestChangesThatCannotBe: the fault is the change's own and keeps its origin wherever that can be known.
func TestChangesThatCannotBe(t *testing.T) {
	good := func() *relayv1.ChangeBegin {
		return &relayv1.ChangeBegin{
			Operation: relayv1.Operation_OPERATION_REPLACE, Format: relayv1.BodyFormat_BODY_FORMAT_TEXT,
			GroupingKey: []*relayv1.Label{{Name: "job", Value: "j"}},
			Origin:      &relayv1.Origin{JournalId: make([]byte, 16), Sequence: 1, Digest: make([]byte, 16)},
		}
	}
	for _, tt := range []struct {
		name    string
		change  func(*relayv1.ChangeBegin)
		want    error
		noGroup bool
		origin  bool
	}{
		{name: "operation", change: func(b *relayv1.ChangeBegin) { b.Operation = 99 }, want: tunnel.ErrUnsupported, origin: true},
		{name: "format", change: func(b *relayv1.ChangeBegin) { b.Format = 99 }, want: tunnel.ErrUnsupported, origin: true},
		{name: "name", change: func(b *relayv1.ChangeBegin) {
			b.GroupingKey[0].Name = "job"
			b.GroupingKey = append(b.GroupingKey, &relayv1.Label{Name: "ä"})
		}, want: change.Invalid, origin: true},
		{name: "no job", change: func(b *relayv1.ChangeBegin) { b.GroupingKey = nil }, want: change.Invalid, noGroup: true},
		{name: "life", change: func(b *relayv1.ChangeBegin) { b.Life = &relayv1.Life{Ttl: "tomorrow"} }, want: change.Invalid, origin: true},
		{name: "every beside schedule", change: func(b *relayv1.ChangeBegin) { b.Life = &relayv1.Life{Every: "1h", Schedule: "0 0 * * *"} }, want: change.Invalid, origin: true},
		{name: "journal", change: func(b *relayv1.ChangeBegin) { b.Origin.JournalId = []byte("short") }, want: change.Invalid},
		{name: "digest", change: func(b *relayv1.ChangeBegin) { b.Origin.Digest = nil }, want: change.Invalid},
		{name: "sequence", change: func(b *relayv1.ChangeBegin) { b.Origin.Sequence = 0 }, want: change.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := good()
			tt.change(begin)
			r, err := tunnel.ChangeFromProto(begin, time.Now(), nil, metric.LegacyNames)
			if tt.noGroup != (err != nil) {
				t.Fatalf("ChangeFromProto = %+v, %v", r, err)
			}
			if err == nil {
				err = r.Refused
				if (r.Origin != nil) != tt.origin {
					t.Errorf("origin = %v", r.Origin)
				}
			}
			if !errors.Is(err, tt.want) || !isFinal(err) {
				t.Errorf("refused with %v, want %v for good", err, tt.want)
			}
		})
	}
	if r, err := tunnel.ChangeFromProto(good(), time.Now(), nil, metric.LegacyNames); err != nil || r.Refused != nil {
		t.Errorf("the good one = %+v, %v", r, err)
	}
}

// TestReasonsOfVerdicts: the numbers of package change are those of relay.proto, each of which some kind has.
func TestReasonsOfVerdicts(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range change.Kinds() {
		switch verdict, reason := kind.Verdict(); verdict {
		case change.Rejected:
			seen[relayv1.RejectReason(reason).String()] = true
		case change.Later:
			seen[relayv1.LaterReason(reason).String()] = true
		}
	}
	for kind, want := range map[change.Kind]fmt.Stringer{
		change.Invalid: relayv1.RejectReason_REJECT_REASON_INVALID, change.Inconsistent: relayv1.RejectReason_REJECT_REASON_INCONSISTENT,
		change.TooLarge: relayv1.RejectReason_REJECT_REASON_TOO_LARGE, change.Forbidden: relayv1.RejectReason_REJECT_REASON_FORBIDDEN,
		change.Unsupported: relayv1.RejectReason_REJECT_REASON_UNSUPPORTED, change.Superseded: relayv1.RejectReason_REJECT_REASON_SUPERSEDED,
		change.Unavailable: relayv1.LaterReason_LATER_REASON_OVERLOADED, change.NotWritable: relayv1.LaterReason_LATER_REASON_NOT_WRITABLE,
		change.Full: relayv1.LaterReason_LATER_REASON_STORE_FULL, change.NotCurrent: relayv1.LaterReason_LATER_REASON_SESSION_ENDING,
	} {
		verdict := tunnel.VerdictToProto(1, change.Outcome{Kind: kind})
		var got fmt.Stringer = verdict.GetLater().GetReason()
		if verdict.GetRejected() != nil {
			got = verdict.GetRejected().GetReason()
		}
		if got != want {
			t.Errorf("%v travels as %v, want %v", kind, got, want)
		}
	}
	if want := len(relayv1.RejectReason_name) + len(relayv1.LaterReason_name) - 2; len(seen) != want {
		t.Errorf("%d reasons are used, of %d: %v", len(seen), want, seen)
	}
}

// TestVerdictsTravel: what the relay's pusher says is what the agent's clients hear.
func TestVerdictsTravel(t *testing.T) {
	for _, want := range []change.Outcome{{Kind: change.Applied}, {Kind: change.Unchecked}, {Kind: change.Unchecked, Detail: "not exposed: x"}, {Kind: change.Applied, Duplicate: true}} {
		got := tunnel.VerdictFromProto(tunnel.VerdictToProto(1, want))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	for _, tt := range []struct {
		err    error
		final  bool
		kind   error
		status int
	}{
		{change.Refuse(change.Invalid, "x"), true, change.Invalid, http.StatusBadRequest},
		{change.Refuse(change.Inconsistent, "x"), true, change.Inconsistent, http.StatusBadRequest},
		{change.Refuse(change.TooLarge, "x"), true, change.TooLarge, http.StatusRequestEntityTooLarge},
		{change.Refuse(change.Forbidden, "x"), true, change.Forbidden, http.StatusForbidden},
		{fmt.Errorf("x: %w", tunnel.ErrUnsupported), true, change.Unsupported, http.StatusBadRequest},
		{change.Refuse(change.Full, "x"), false, change.Full, http.StatusTooManyRequests},
		{&change.Outcome{Kind: change.NotWritable, Detail: "x", RetryAfter: 3 * time.Second}, false, change.NotWritable, http.StatusServiceUnavailable},
		{change.Refuse(change.NotCurrent, "x"), false, change.NotCurrent, http.StatusServiceUnavailable},
		{change.Refuse(change.Unavailable, "x"), false, change.Unavailable, http.StatusServiceUnavailable},
		{errors.New("x"), false, change.Unavailable, http.StatusServiceUnavailable},
	} {
		err := tunnel.VerdictFromProto(tunnel.VerdictToProto(1, change.OutcomeOf(tt.err))).Err()
		if !errors.Is(err, tt.kind) || !strings.HasPrefix(err.Error(), "x") || change.OutcomeOf(err).Kind.Status() != tt.status {
			t.Errorf("%v arrives as %v with status %d, want status %d", tt.err, err, change.OutcomeOf(err).Kind.Status(), tt.status)
		}
		if isFinal(err) != tt.final || isFinal(tt.err) != tt.final {
			t.Errorf("Final(%v) = %v", err, !tt.final)
		}
		var before, after *change.Outcome
		if errors.As(tt.err, &before) && errors.As(err, &after) && before.RetryAfter != after.RetryAfter {
			t.Errorf("RetryAfter = %v, want %v", after.RetryAfter, before.RetryAfter)
		}
	}
	if err := tunnel.VerdictFromProto(&relayv1.PushResponse{}).Err(); isFinal(err) || err == nil {
		t.Errorf("an unknown verdict = %v", err)
	}
}

// TestWelcomesTravel reads what relays announce, and refuses what none may.
func TestWelcomesTravel(t *testing.T) {
	limits := exposition.Limits{MaxBodyBytes: 1, MaxDecompressedBytes: 2, MaxSeries: 3, MaxLabels: 4, MaxLabelLength: 5}
	state := tunnel.JournalState{Journal: [16]byte{1}, Decided: 9, Digest: change.Digest{3}}
	w := &relayv1.Welcome{
		StoreId: []byte("0123456789abcdef"), Limits: tunnel.LimitsToProto(limits), Journals: []*relayv1.JournalState{tunnel.JournalToProto(state)},
	}
	w.Limits.AgentLabel, w.Limits.Utf8Names = "agent", true
	own := map[string]metric.Type{
		"u": metric.Untyped, "g": metric.Gauge, "c": metric.Counter, "s": metric.Summary, "h": metric.Histogram, "gh": metric.GaugeHistogram,
	}
	w.OwnFamilies = tunnel.OwnFamiliesToProto(own)
	got, err := tunnel.WelcomeFromProto(w)
	if err != nil {
		t.Fatal(err)
	}
	want := tunnel.Welcome{
		StoreID: [16]byte([]byte("0123456789abcdef")), Limits: limits, AgentLabel: "agent", Names: metric.UTF8Names,
		Journals: []tunnel.JournalState{state}, OwnFamilies: own,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("WelcomeFromProto (-want +got):\n%s", diff)
	}
	w.Journals[0].Digest = nil
	if _, err := tunnel.WelcomeFromProto(w); err == nil {
		t.Error("a journal without a digest was taken")
	}
	w.Journals, w.StoreId = nil, nil
	if _, err := tunnel.WelcomeFromProto(w); err == nil {
		t.Error("a store without an id was taken")
	}
}

// TestWelcomesAreBounded: what an agent remembers of a welcome has bounds, and no honest relay goes beyond them.
func TestWelcomesAreBounded(t *testing.T) {
	read := func(label string, families ...*relayv1.OwnFamily) tunnel.Welcome {
		t.Helper()
		w, err := tunnel.WelcomeFromProto(&relayv1.Welcome{StoreId: make([]byte, 16), Limits: &relayv1.Limits{AgentLabel: label}, OwnFamilies: families})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	const gauge = relayv1.FamilyType_FAMILY_TYPE_GAUGE
	long := strings.Repeat("x", tunnel.MaxNameBytes+1)
	many := map[string]metric.Type{long: metric.Gauge}
	var families []*relayv1.OwnFamily
	for i := range 3 * tunnel.MaxOwnFamilies {
		many[fmt.Sprint("m", i)] = metric.Gauge
		families = append(families, &relayv1.OwnFamily{Name: fmt.Sprint("m", i), Type: gauge})
	}
	if n := len(tunnel.OwnFamiliesToProto(many)); n != tunnel.MaxOwnFamilies {
		t.Errorf("a relay tells of %d families", n)
	}
	if n := len(read("", families...).OwnFamilies); n != tunnel.MaxOwnFamilies {
		t.Errorf("an agent takes %d families", n)
	}
	got := read(long, nil, &relayv1.OwnFamily{Type: gauge}, &relayv1.OwnFamily{Name: long, Type: gauge}, &relayv1.OwnFamily{Name: "none"},
		&relayv1.OwnFamily{Name: "later", Type: 99}, &relayv1.OwnFamily{Name: "g", Type: gauge})
	if diff := cmp.Diff(map[string]metric.Type{"g": metric.Gauge}, got.OwnFamilies); diff != "" || got.AgentLabel != "" {
		t.Errorf("the label is %q, the families (-want +got):\n%s", got.AgentLabel, diff)
	}
	if got := read("a.b"); got.AgentLabel != "" {
		t.Errorf("the label is %q, and that is none", got.AgentLabel)
	}
}

func TestJournalsAndSpoolStatesTravel(t *testing.T) {
	journals := [][16]byte{{1}, {2}}
	got, err := tunnel.JournalIDsFromProto(tunnel.JournalIDsToProto(journals))
	if diff := cmp.Diff(journals, got); diff != "" || err != nil {
		t.Errorf("JournalIDsFromProto = %v (-want +got):\n%s", err, diff)
	}
	if n := len(tunnel.JournalIDsToProto(make([][16]byte, 20))); n != tunnel.MaxJournals {
		t.Errorf("a hello asks after %d journals", n)
	}
	for _, ids := range [][][]byte{make([][]byte, tunnel.MaxJournals+1), {[]byte("short")}} {
		if _, err := tunnel.JournalIDsFromProto(ids); err == nil {
			t.Errorf("JournalIDsFromProto(%v) succeeded", ids)
		}
	}
	for _, want := range []tunnel.SpoolState{{}, {Pending: 3}, {Pending: 3, DecidedThrough: 7, Journal: [16]byte{1}}} {
		if got := tunnel.SpoolFromProto(tunnel.SpoolToProto(want)); got != want {
			t.Errorf("SpoolFromProto = %+v, want %+v", got, want)
		}
	}
	malformed := &relayv1.SpoolState{PendingChanges: 3, DecidedThrough: 7, JournalId: []byte("short")}
	if got := tunnel.SpoolFromProto(malformed); got != (tunnel.SpoolState{Pending: 3}) {
		t.Errorf("SpoolFromProto = %+v", got)
	}
}

// TestAgesOfPushes: whatever age an agent gives, the push was made after 1970 and not later than it came.
func TestAgesOfPushes(t *testing.T) {
	begun := time.Unix(1_800_000_000, 0)
	for name, tt := range map[string]struct {
		age  *durationpb.Duration
		want time.Time
	}{
		"none":        {nil, begun},
		"usual":       {durationpb.New(time.Hour), begun.Add(-time.Hour)},
		"negative":    {durationpb.New(-time.Hour), begun},
		"a century":   {durationpb.New(100 * 365 * 24 * time.Hour), time.Unix(1, 0)},
		"from 1970":   {&durationpb.Duration{Seconds: begun.Unix()}, time.Unix(1, 0)},
		"overflowing": {&durationpb.Duration{Seconds: math.MaxInt64, Nanos: math.MaxInt32}, time.Unix(1, 0)},
		"impossible":  {&durationpb.Duration{Seconds: math.MinInt64, Nanos: math.MinInt32}, begun},
	} {
		c, err := tunnel.ChangeFromProto(&relayv1.ChangeBegin{
			Operation: relayv1.Operation_OPERATION_DELETE, GroupingKey: []*relayv1.Label{{Name: "job", Value: "j"}}, Age: tt.age,
		}, begun, nil, metric.LegacyNames)
		if err != nil || !c.At.Equal(tt.want) {
			t.Errorf("%s: %v, %v, want %v", name, c.At, err, tt.want)
		}
	}
}
