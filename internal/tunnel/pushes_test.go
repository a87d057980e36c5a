package tunnel_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/push"
	"pushrelay/internal/tunnel"
)

// origin is one that can be.
func origin(sequence uint64) *push.Origin {
	return &push.Origin{Journal: [16]byte{1}, Sequence: sequence, Digest: push.Digest{2}}
}

// TestChangesTravel sends every kind of push there and back.
func TestChangesTravel(t *testing.T) {
	key := must[grouping.Key](t)(grouping.New(grouping.Label{Name: "job", Value: "j"}, grouping.Label{Name: "k", Value: ""}))
	for _, want := range []*push.Request{
		{Operation: push.Replace, Key: key, Format: exposition.Text004, Body: []byte("m 1\n")},
		{Operation: push.Merge, Key: key, Format: exposition.ProtobufDelimited, Body: []byte("x"), Origin: origin(1)},
		{Operation: push.Delete, Key: key, Origin: origin(1 << 63)},
		{Operation: push.Fail, Key: key, Origin: origin(7)},
	} {
		want.ReceivedAt = time.Now().Add(-time.Minute)
		got, err := tunnel.ChangeFromProto(tunnel.ChangeToProto(want), time.Now(), want.Body, grouping.LegacyNames)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateApproxTime(time.Second), cmp.Comparer(func(a, b grouping.Key) bool { return a == b })); diff != "" {
			t.Errorf("%v (-sent +received):\n%s", want.Operation, diff)
		}
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
		}, want: push.ErrInvalid, origin: true},
		{name: "no job", change: func(b *relayv1.ChangeBegin) { b.GroupingKey = nil }, want: push.ErrInvalid, noGroup: true},
		{name: "journal", change: func(b *relayv1.ChangeBegin) { b.Origin.JournalId = []byte("short") }, want: push.ErrInvalid},
		{name: "digest", change: func(b *relayv1.ChangeBegin) { b.Origin.Digest = nil }, want: push.ErrInvalid},
		{name: "sequence", change: func(b *relayv1.ChangeBegin) { b.Origin.Sequence = 0 }, want: push.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin := good()
			tt.change(begin)
			r, err := tunnel.ChangeFromProto(begin, time.Now(), nil, grouping.LegacyNames)
			if tt.noGroup != (err != nil) {
				t.Fatalf("ChangeFromProto = %+v, %v", r, err)
			}
			if err == nil {
				err = r.Refused
				if (r.Origin != nil) != tt.origin {
					t.Errorf("origin = %v", r.Origin)
				}
			}
			if !errors.Is(err, tt.want) || !push.IsFinal(err) {
				t.Errorf("refused with %v, want %v for good", err, tt.want)
			}
		})
	}
	if r, err := tunnel.ChangeFromProto(good(), time.Now(), nil, grouping.LegacyNames); err != nil || r.Refused != nil {
		t.Errorf("the good one = %+v, %v", r, err)
	}
}

// TestVerdictsTravel: what the relay's pusher says is what the agent's clients hear.
func TestVerdictsTravel(t *testing.T) {
	for _, want := range []push.Result{{Outcome: push.Applied}, {Outcome: push.Unchecked}, {Outcome: push.Unchecked, Detail: "not exposed: x"}, {Outcome: push.Applied, Duplicate: true}} {
		got, err := tunnel.VerdictFromProto(tunnel.VerdictToProto(1, want, nil))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	for _, tt := range []struct {
		err    error
		final  bool
		kind   error
		status int
	}{
		{push.Errorf(push.ErrInvalid, "x"), true, push.ErrInvalid, http.StatusBadRequest},
		{push.Errorf(push.ErrInconsistent, "x"), true, push.ErrInconsistent, http.StatusBadRequest},
		{push.Errorf(push.ErrTooLarge, "x"), true, push.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{push.Errorf(push.ErrForbidden, "x"), true, push.ErrForbidden, http.StatusForbidden},
		{fmt.Errorf("x: %w", tunnel.ErrUnsupported), true, tunnel.ErrUnsupported, http.StatusBadRequest},
		{push.Errorf(push.ErrFull, "x"), false, push.ErrFull, http.StatusTooManyRequests},
		{&push.Error{Kind: push.ErrNotWritable, Message: "x", RetryAfter: 3 * time.Second}, false, push.ErrNotWritable, http.StatusServiceUnavailable},
		{push.Errorf(push.ErrNotCurrent, "x"), false, push.ErrNotCurrent, http.StatusServiceUnavailable},
		{push.Errorf(push.ErrUnavailable, "x"), false, push.ErrUnavailable, http.StatusServiceUnavailable},
		{errors.New("x"), false, push.ErrUnavailable, http.StatusServiceUnavailable},
	} {
		_, err := tunnel.VerdictFromProto(tunnel.VerdictToProto(1, push.Result{}, tt.err))
		if !errors.Is(err, tt.kind) || !strings.HasPrefix(err.Error(), "x") || push.StatusOf(err) != tt.status {
			t.Errorf("%v arrives as %v with status %d, want status %d", tt.err, err, push.StatusOf(err), tt.status)
		}
		if push.IsFinal(err) != tt.final || push.IsFinal(tt.err) != tt.final {
			t.Errorf("Final(%v) = %v", err, !tt.final)
		}
		var before, after *push.Error
		if errors.As(tt.err, &before) && errors.As(err, &after) && before.RetryAfter != after.RetryAfter {
			t.Errorf("RetryAfter = %v, want %v", after.RetryAfter, before.RetryAfter)
		}
	}
	if _, err := tunnel.VerdictFromProto(&relayv1.PushResponse{}); push.IsFinal(err) || err == nil {
		t.Errorf("an unknown verdict = %v", err)
	}
}

// TestWelcomesTravel reads what relays announce, and refuses what none may.
func TestWelcomesTravel(t *testing.T) {
	limits := push.Limits{MaxBodyBytes: 1, MaxDecompressedBytes: 2, MaxSeries: 3, MaxLabels: 4, MaxLabelLength: 5}
	state := tunnel.JournalState{Journal: [16]byte{1}, Decided: 9, Digest: push.Digest{3}}
	w := &relayv1.Welcome{
		StoreId: []byte("0123456789abcdef"), Limits: tunnel.LimitsToProto(limits), Journals: []*relayv1.JournalState{tunnel.JournalToProto(state)},
	}
	w.Limits.AgentLabel, w.Limits.Utf8Names = "agent", true
	got, err := tunnel.WelcomeFromProto(w)
	if err != nil {
		t.Fatal(err)
	}
	want := tunnel.Welcome{
		StoreID: [16]byte([]byte("0123456789abcdef")), Limits: limits, AgentLabel: "agent", Names: grouping.UTF8Names,
		Journals: []tunnel.JournalState{state},
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
