package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// counted returns relay_changes_total by result.
func (h *house) counted() map[string]float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "relay_changes_total" {
			for _, m := range f.Metric {
				counts[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	return counts
}

func (h *house) wantCounted(applied, duplicate, rejected, later float64) {
	h.t.Helper()
	want := map[string]float64{"applied": applied, "duplicate": duplicate, "rejected": rejected, "later": later}
	if diff := cmp.Diff(want, h.counted()); diff != "" {
		h.t.Errorf("relay_changes_total (-want +got):\n%s", diff)
	}
}

// TestWelcomeTellsOfJournals: those that the hello asks after and that the relay has met.
func TestWelcomeTellsOfJournals(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	met := tunnel.JournalState{Journal: [16]byte{1}, Decided: 7, Digest: change.Digest{2}}
	h.journals.decided["site"] = met
	a := h.dialRaw("site")
	other := [16]byte{9}
	if err := a.attach(timeout(t, 10*time.Second), hello(met.Journal[:], other[:])); err != nil {
		t.Fatal(err)
	}
	w, err := tunnel.WelcomeFromProto(a.welcome)
	if diff := cmp.Diff([]tunnel.JournalState{met}, w.Journals); diff != "" || err != nil {
		t.Errorf("%v, journals (-want +got):\n%s", err, diff)
	}
	for _, c := range []relayv1.Capability{relayv1.Capability_CAPABILITY_PUSH, relayv1.Capability_CAPABILITY_PUSH_ORIGIN, relayv1.Capability_CAPABILITY_PUSH_FAILURE, relayv1.Capability_CAPABILITY_MAY_BE_HIDDEN, relayv1.Capability_CAPABILITY_LIFE} {
		if !tunnel.Has(a.welcome.GetCapabilities(), c) {
			t.Errorf("the relay does not announce %v", c)
		}
	}
	for _, ids := range [][][]byte{{[]byte("short")}, slices.Repeat([][]byte{met.Journal[:]}, tunnel.MaxJournals+1)} {
		err := h.dialRaw("site").attach(timeout(t, 10*time.Second), hello(ids...))
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "journal") {
			t.Errorf("a hello with %d journals = %v", len(ids), err)
		}
	}
}

// TestSpoolStatePassesJournals: what will never come again is forgotten, once.
func TestSpoolStatePassesJournals(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	a := h.attachRaw("site")
	first := tunnel.SpoolState{Pending: 5, DecidedThrough: 3, Journal: [16]byte{1}}
	next := tunnel.SpoolState{Pending: 4, DecidedThrough: 9, Journal: [16]byte{1}}
	other := tunnel.SpoolState{Pending: 2, DecidedThrough: 1, Journal: [16]byte{2}}
	for _, s := range []tunnel.SpoolState{{Pending: 9}, first, first, {Pending: 4, DecidedThrough: 2, Journal: [16]byte{1}}, next, other} {
		if err := a.stream.Send(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Spool{Spool: tunnel.SpoolToProto(s)}}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the last state has come", func() bool { return len(h.registry.Agents()) == 1 && h.registry.Agents()[0].SpoolPending == 2 })
	want := []tunnel.SpoolState{first, next, other}
	for i := range want {
		want[i].Pending = 0
	}
	eventually(t, "it is forgotten", func() bool { return len(h.journals.forgotten()) == len(want) })
	if diff := cmp.Diff(want, h.journals.forgotten()); diff != "" {
		t.Errorf("forgotten (-want +got):\n%s", diff)
	}
}

// TestFinalVerdictsAreDecided: whatever this end refuses for good goes to the pusher, which keeps the origin.
func TestFinalVerdictsAreDecided(t *testing.T) {
	var mu sync.Mutex
	var got []*change.Change
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r)
		if r.Refused != nil {
			return change.Outcome{}, r.Refused
		}
		return change.Outcome{Kind: change.Applied, Duplicate: r.Origin.Sequence == 99}, nil
	}))
	a := h.attachRaw("site")
	for i, tt := range []struct {
		name   string
		change func(*relayv1.ChangeBegin)
		body   string
		reason relayv1.RejectReason
		alone  bool // there is no group, so that the pusher is not asked
	}{
		{"fine", func(*relayv1.ChangeBegin) {}, "m 1\n", 0, false},
		{"failure", func(b *relayv1.ChangeBegin) { b.Operation, b.BodyBytes = relayv1.Operation_OPERATION_FAILURE, 0 }, "", 0, false},
		{"too large", func(b *relayv1.ChangeBegin) { b.BodyBytes = 2 << 20 }, "m 1\n", relayv1.RejectReason_REJECT_REASON_TOO_LARGE, false},
		{"operation", func(b *relayv1.ChangeBegin) { b.Operation = 99 }, "m 1\n", relayv1.RejectReason_REJECT_REASON_UNSUPPORTED, false},
		{"encoding", func(b *relayv1.ChangeBegin) { b.Encoding = 99 }, "m 1\n", relayv1.RejectReason_REJECT_REASON_UNSUPPORTED, false},
		{"format", func(b *relayv1.ChangeBegin) { b.Format = 99 }, "m 1\n", relayv1.RejectReason_REJECT_REASON_UNSUPPORTED, false},
		{"short", func(b *relayv1.ChangeBegin) { b.BodyBytes++ }, "m 1\n", relayv1.RejectReason_REJECT_REASON_INVALID, false},
		{"long", func(b *relayv1.ChangeBegin) { b.BodyBytes-- }, "m 1\n", relayv1.RejectReason_REJECT_REASON_INVALID, false},
		{"name", func(b *relayv1.ChangeBegin) { b.GroupingKey = append(b.GroupingKey, &relayv1.Label{Name: "ä"}) }, "m 1\n", relayv1.RejectReason_REJECT_REASON_INVALID, false},
		{"no group", func(b *relayv1.ChangeBegin) { b.GroupingKey = nil }, "m 1\n", relayv1.RejectReason_REJECT_REASON_INVALID, true},
	} {
		begin := changeBegin(uint64(i)+1, tt.body)
		tt.change(begin)
		a.send(begin, tt.body)
		verdict := a.verdict()
		if verdict.GetChange() != begin.GetChange() || verdict.GetRejected().GetReason() != tt.reason || (verdict.GetApplied() != nil) != (tt.reason == 0) {
			t.Errorf("%s: verdict %v", tt.name, verdict)
		}
		mu.Lock()
		asked := got
		got = nil
		mu.Unlock()
		if tt.alone {
			if len(asked) != 0 {
				t.Errorf("%s: the pusher was asked", tt.name)
			}
			continue
		}
		if len(asked) != 1 || (asked[0].Refused != nil) != (tt.reason != 0) || asked[0].Agent != "site" || asked[0].Current == nil || !asked[0].Current() ||
			asked[0].Origin == nil || asked[0].Origin.Sequence != uint64(i)+1 || asked[0].Key.Job() != "j" {
			t.Errorf("%s: the pusher was asked %+v", tt.name, asked)
		}
	}
	a.send(changeBegin(99, ""), "")
	if !a.verdict().GetApplied().GetDuplicate() {
		t.Error("the verdict does not say that the change is a duplicate")
	}
	h.wantCounted(2, 1, 8, 0)
}

// TestPackedBodies: bodies come as a block of S2, in chunks or within the begin of their change, and are what they were; whatever is wrong with one is
// refused for good, and costs the relay nothing that was not sent.
func TestPackedBodies(t *testing.T) {
	var mu sync.Mutex
	var got []*change.Change
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		c := *r
		c.Body = bytes.Clone(r.Body)
		got = append(got, &c)
		if r.Refused != nil {
			return change.Outcome{}, r.Refused
		}
		return change.Outcome{Kind: change.Applied}, nil
	}))
	a := h.attachRaw("site")
	if !tunnel.Has(a.welcome.GetCapabilities(), relayv1.Capability_CAPABILITY_PUSH_S2) {
		t.Fatalf("capabilities: %v", a.welcome.GetCapabilities())
	}
	large := strings.Repeat("m{a=\"1\"} 1\n# HELP m some\n", 4000)
	var random [40000]byte
	rand.Read(random[:])
	packed := func(b *relayv1.ChangeBegin, body string) string {
		block := s2.Encode(nil, []byte(body))
		tunnel.Pack(b, len(block), len(body))
		return string(block)
	}
	inline := func(b *relayv1.ChangeBegin, body string) string {
		b.Body, b.BodyBytes = []byte(body), uint64(len(body))
		return ""
	}
	for i, tt := range []struct {
		name   string
		body   string
		change func(b *relayv1.ChangeBegin, body string) (chunks string)
		reason relayv1.RejectReason
	}{
		{"in chunks", string(random[:]) + large, packed, 0},
		{"within the begin", "m 1\nm2 1\n", inline, 0},
		{"nothing within the begin", "", inline, 0},
		{"packed within the begin", strings.Repeat("m 1\n", 100), func(b *relayv1.ChangeBegin, body string) string {
			b.Body = []byte(packed(b, body))
			return ""
		}, 0},
		{"a kilobyte and a byte within the begin", strings.Repeat("x", 1025), inline, relayv1.RejectReason_REJECT_REASON_INVALID},
		{"no block", large, func(b *relayv1.ChangeBegin, body string) string {
			block := packed(b, body)
			return strings.Repeat("\xff", len(block))
		}, relayv1.RejectReason_REJECT_REASON_INVALID},
		{"a block of more", string(random[:]), func(b *relayv1.ChangeBegin, body string) string {
			block := packed(b, body+large)
			b.DecompressedBytes--
			return block
		}, relayv1.RejectReason_REJECT_REASON_INVALID},
		{"a block that is cut off", large, func(b *relayv1.ChangeBegin, body string) string {
			block := packed(b, body)
			b.BodyBytes--
			return block[:len(block)-1]
		}, relayv1.RejectReason_REJECT_REASON_INVALID},
		{"a block of nearly nothing", strings.Repeat("x", 1<<20-1), packed, relayv1.RejectReason_REJECT_REASON_INVALID},
		{"a block that makes it longer", string(random[:]), packed, relayv1.RejectReason_REJECT_REASON_INVALID},
		{"too large", string(random[:]) + strings.Repeat(large, 12), packed, relayv1.RejectReason_REJECT_REASON_TOO_LARGE},
		{"gzip", "m 1\n", func(b *relayv1.ChangeBegin, body string) string {
			b.Encoding = 1
			return body
		}, relayv1.RejectReason_REJECT_REASON_UNSUPPORTED},
	} {
		begin := changeBegin(uint64(i)+1, tt.body)
		chunks := tt.change(begin, tt.body)
		whole := begin.Body != nil
		a.number++
		begin.Change = a.number
		a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Begin{Begin: begin}})
		for chunk := range slices.Chunk([]byte(chunks), 60<<10) {
			a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_Chunk{Chunk: chunk}})
		}
		if !whole {
			a.part(&relayv1.PushRequest{Part: &relayv1.PushRequest_End{End: &relayv1.ChangeEnd{}}})
		}
		verdict := a.verdict()
		if verdict.GetChange() != begin.GetChange() || verdict.GetRejected().GetReason() != tt.reason || (verdict.GetApplied() != nil) != (tt.reason == 0) {
			t.Errorf("%s: verdict %v", tt.name, verdict)
		}
		mu.Lock()
		if len(got) != i+1 || tt.reason == 0 && string(got[i].Body) != tt.body {
			t.Errorf("%s: the pusher was asked %d times, at last with %.100q", tt.name, len(got), got[len(got)-1].Body)
		}
		mu.Unlock()
	}
}

// TestKeysOfChangesAreBounded: of a change whose key is beyond the limits nothing is kept, whatever is wrong with it besides; a group that
// has such a key can be deleted.
func TestKeysOfChangesAreBounded(t *testing.T) {
	var mu sync.Mutex
	var asked []change.Operation
	h := newHouse(t, pusherFunc(func(_ context.Context, r *change.Change) (change.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Operation)
		return change.Outcome{Kind: change.Applied}, nil
	}))
	a := h.attachRaw("site")
	for _, op := range []relayv1.Operation{relayv1.Operation_OPERATION_REPLACE, relayv1.Operation_OPERATION_FAILURE, 99} {
		begin := changeBegin(1, "")
		begin.Operation, begin.GroupingKey[0].Value = op, strings.Repeat("x", 900<<10)
		a.send(begin, "")
		verdict := a.verdict()
		if verdict.GetRejected().GetReason() != relayv1.RejectReason_REJECT_REASON_INVALID || !strings.Contains(verdict.GetRejected().GetMessage(), "--push.max-label-length") {
			t.Errorf("operation %v: verdict %.300v", op, verdict)
		}
	}
	begin := changeBegin(9, "")
	begin.Operation, begin.GroupingKey[0].Value = relayv1.Operation_OPERATION_DELETE, strings.Repeat("x", 900<<10)
	a.send(begin, "")
	if verdict := a.verdict(); verdict.GetApplied() == nil {
		t.Errorf("a deletion: verdict %.300v", verdict)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(asked, []change.Operation{change.Delete}) {
		t.Errorf("the pusher was asked for %v", asked)
	}
}

// TestOverloadIsPutOff: beyond what may be in flight for all agents together a change is put off, and gets through later.
func TestOverloadIsPutOff(t *testing.T) {
	const inFlight = 1024
	release := make(chan struct{})
	var begun sync.WaitGroup
	begun.Add(inFlight)
	h := newHouse(t, pusherFunc(func(context.Context, *change.Change) (change.Outcome, error) {
		select {
		case <-release:
		default:
			begun.Done()
			<-release
		}
		return change.Outcome{Kind: change.Applied}, nil
	}))
	var busy []*rawAgent
	for i := range inFlight / tunnel.MaxUnacknowledgedChanges {
		a := h.attachRaw("busy-" + string(rune('a'+i)))
		busy = append(busy, a)
		for j := range tunnel.MaxUnacknowledgedChanges {
			begin := changeBegin(uint64(j)+1, "")
			begin.GroupingKey[0].Value = strings.Repeat("x", j+1)
			a.send(begin, "")
		}
	}
	begun.Wait()
	a := h.attachRaw("late")
	for range 3 {
		a.send(changeBegin(1, "m 1\n"), "m 1\n")
		later := a.verdict().GetLater()
		if wait := later.GetRetryAfter().AsDuration(); later.GetReason() != relayv1.LaterReason_LATER_REASON_OVERLOADED || wait < time.Second/2 || wait > 3*time.Second/2 {
			t.Errorf("the change too many is answered %v", later)
		}
	}
	close(release)
	for _, b := range busy {
		for range tunnel.MaxUnacknowledgedChanges {
			if b.verdict().GetApplied() == nil {
				t.Fatal("a change in flight was not applied")
			}
		}
	}
	a.send(changeBegin(1, "m 1\n"), "m 1\n")
	if a.verdict().GetApplied() == nil {
		t.Error("the change does not get through later")
	}
	h.wantCounted(inFlight+1, 0, 0, 3)
}

// TestChangesOutliveTheirSession: a change that came whole is decided and counted, although its agent is gone; and it knows
// that its session is not current any more.
func TestChangesOutliveTheirSession(t *testing.T) {
	asked, release := make(chan *change.Change), make(chan struct{})
	h := newHouse(t, pusherFunc(func(ctx context.Context, r *change.Change) (change.Outcome, error) {
		asked <- r
		<-release
		return change.Outcome{Kind: change.Applied}, ctx.Err()
	}))
	a := h.attachRaw("site")
	a.send(changeBegin(1, "m 1\n"), "m 1\n")
	r := <-asked
	if !r.Current() {
		t.Error("the session is not current")
	}
	h.attachRaw("site")
	if r.Current() {
		t.Error("the session is current after another took over")
	}
	a.close()
	eventually(t, "the old session is gone", func() bool { return len(h.registry.Agents()) == 1 && h.registry.Agents()[0].Connected })
	close(release)
	eventually(t, "it is counted", func() bool { return h.counted()["applied"] == 1 })
	h.wantCounted(1, 0, 0, 0)
}

// TestLateVerdictsHaveReasons: what is put off says why.
func TestLateVerdictsHaveReasons(t *testing.T) {
	next := make(chan error, 1)
	h := newHouse(t, pusherFunc(func(context.Context, *change.Change) (change.Outcome, error) { return change.Outcome{}, <-next }))
	a := h.attachRaw("site")
	for err, want := range map[error]relayv1.LaterReason{
		change.Refuse(change.NotWritable, "x"): relayv1.LaterReason_LATER_REASON_NOT_WRITABLE,
		change.Refuse(change.NotCurrent, "x"):  relayv1.LaterReason_LATER_REASON_SESSION_ENDING,
		change.Refuse(change.Full, "x"):        relayv1.LaterReason_LATER_REASON_STORE_FULL,
		context.DeadlineExceeded:               relayv1.LaterReason_LATER_REASON_OVERLOADED,
		errors.New("x"):                        relayv1.LaterReason_LATER_REASON_OVERLOADED,
	} {
		next <- err
		a.send(changeBegin(1, ""), "")
		if got := a.verdict().GetLater().GetReason(); got != want {
			t.Errorf("%v is %v, want %v", err, got, want)
		}
	}
	h.wantCounted(0, 0, 0, 5)
}

// TestOneStreamOfChanges: a second one ends the session, and one after the other is fine.
func TestOneStreamOfChanges(t *testing.T) {
	h := newHouse(t, pusherFunc(func(context.Context, *change.Change) (change.Outcome, error) {
		return change.Outcome{Kind: change.Applied}, nil
	}))
	a := h.attachRaw("site")
	a.send(changeBegin(1, "m 1\n"), "m 1\n")
	a.verdict()
	second := must[relayv1.RelayService_PushClient](t)(a.client.Push(timeout(t, 10*time.Second)))
	if err := second.Send(&relayv1.PushRequest{Part: &relayv1.PushRequest_Session{Session: a.welcome.GetSession()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the second stream = %v", err)
	}
	for {
		event, err := a.stream.Recv()
		if err != nil {
			t.Fatalf("the session did not say why it ended: %v", err)
		}
		if end := event.GetEnd(); end != nil {
			if end.GetReason() != relayv1.SessionEndReason_SESSION_END_REASON_VIOLATION || !strings.Contains(end.GetMessage(), "second stream") {
				t.Errorf("the session ended with %v", end)
			}
			break
		}
	}
}

// TestAgentsBodiesAreWindowed: an agent that sends beyond its window is not read until earlier changes are decided.
func TestAgentsBodiesAreWindowed(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	begun := 0
	h := newHouse(t, pusherFunc(func(context.Context, *change.Change) (change.Outcome, error) {
		mu.Lock()
		begun++
		mu.Unlock()
		<-release
		return change.Outcome{Kind: change.Applied}, nil
	}))
	a := h.attachRaw("site")
	body := strings.Repeat("x", 60<<10)
	var sending sync.WaitGroup
	sending.Go(func() {
		for n := range 8 {
			begin := changeBegin(uint64(n)+1, body)
			begin.GroupingKey[0].Value = strings.Repeat("j", n+1)
			a.send(begin, body)
		}
	})
	eventually(t, "the window is full", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return begun == 4
	})
	time.Sleep(100 * time.Millisecond) // real sockets: what would come is given the time to
	mu.Lock()
	if begun != 4 {
		t.Errorf("%d changes of 60 KiB are in progress, want the 4 that fit into 256 KiB", begun)
	}
	mu.Unlock()
	close(release)
	sending.Wait()
	for range 8 {
		if a.verdict().GetApplied() == nil {
			t.Error("a change was not applied")
		}
	}
}
