package link

import (
	"strings"
	"testing"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
)

// A tried queue is one whose lane is played by the test.
type triedQueue struct {
	*queue
	t *testing.T
}

func newTriedQueue(t *testing.T) triedQueue { return triedQueue{newQueue([16]byte{1}), t} }

func (q triedQueue) push(job, body string) *entry {
	q.t.Helper()
	key, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		q.t.Fatal(err)
	}
	e, refusal := q.add(order{change: &change.Change{Operation: change.Replace, Key: key, Body: []byte(body)}})
	if refusal != nil {
		q.t.Fatal(refusal)
	}
	return e
}

// out has everything go out that may, and compares it with what is wanted: numbers, and after which.
func (q triedQueue) out(want ...[2]uint64) {
	q.t.Helper()
	for _, w := range want {
		e, begin := q.pop()
		if e == nil || begin.GetNumber() != w[0] || begin.GetAfter() != w[1] {
			q.t.Fatalf("%v goes out, want number %d after %d", begin, w[0], w[1])
		}
		q.complete(e)
	}
	if e, begin := q.pop(); e != nil {
		q.t.Fatalf("%v goes out as well", begin)
	}
}

func (q triedQueue) hear(number uint64, kind change.Kind) {
	o := outcomeToProto(change.Outcome{Kind: kind})
	q.take(&relayv1.ForwardResponse{Number: number, Result: &relayv1.ForwardResponse_Outcome{Outcome: o}})
}

func (q triedQueue) hearAgain(number uint64) { q.take(&relayv1.ForwardResponse{Number: number}) }

func (q triedQueue) wantAnswer(e *entry, kind change.Kind) {
	q.t.Helper()
	select {
	case a := <-e.answer:
		if a.Kind != kind {
			q.t.Errorf("the answer is %v, want %v", a.Kind, kind)
		}
	default:
		q.t.Errorf("there is no answer, want %v", kind)
	}
}

// TestCarefulGroups: after one that was not taken a group's changes go out one by one, in the order of their numbers and before newer ones, until one is
// taken. Other groups do not wait.
func TestCarefulGroups(t *testing.T) {
	q := newTriedQueue(t)
	for range 3 {
		q.push("j", "")
	}
	q.push("k", "")
	q.out([2]uint64{1, 0}, [2]uint64{2, 1}, [2]uint64{3, 2}, [2]uint64{4, 0})
	q.hear(1, change.Full)
	q.hearAgain(3) // in any order
	q.push("j", "new")
	q.out() // 2 is out yet: what it says of 3 is not known
	q.hearAgain(2)
	q.push("k", "")
	q.out([2]uint64{2, 0}, [2]uint64{5, 4})
	q.hear(2, change.Inconsistent)
	q.out([2]uint64{3, 0})
	q.hear(3, change.Applied)
	q.push("j", "newest")
	q.out([2]uint64{6, 0}, [2]uint64{7, 6})
}

// TestLaterLanes: what went out goes out again first and in order, with its number; what may have been decided before is not told as not taken.
func TestLaterLanes(t *testing.T) {
	q := newTriedQueue(t)
	first, second := q.push("j", ""), q.push("j", "")
	q.out([2]uint64{1, 0}, [2]uint64{2, 1})
	third := q.push("k", "")
	q.relaunch()
	q.out([2]uint64{1, 0}, [2]uint64{2, 1}, [2]uint64{3, 0})
	for _, kind := range []change.Kind{change.NotCurrent, change.NotWritable, change.Unavailable} {
		q.hear(1, kind)
		q.hear(3, kind)
	}
	select {
	case a := <-first.answer:
		t.Errorf("what may have been decided is told as %v", a.Kind)
	default:
	}
	q.wantAnswer(third, change.NotCurrent)
	q.relaunch()
	q.out([2]uint64{1, 0}, [2]uint64{2, 1})
	q.hear(1, change.Full) // which looks at the marks first
	q.wantAnswer(first, change.Full)
	q.hear(2, change.Applied)
	q.wantAnswer(second, change.Applied)
	q.hear(2, change.Applied) // again
	if len(q.numbered)+len(q.chains)+q.out0() != 0 {
		t.Errorf("left are %d numbers, %d groups, %d that are out", len(q.numbered), len(q.chains), q.out0())
	}
}

// TestLaneBreaksInACarefulGroup: what waits there with a number goes out again before higher ones.
func TestLaneBreaksInACarefulGroup(t *testing.T) {
	q := newTriedQueue(t)
	for range 3 {
		q.push("j", "")
	}
	q.out([2]uint64{1, 0}, [2]uint64{2, 1}, [2]uint64{3, 2})
	q.hear(1, change.Inconsistent)
	q.hearAgain(2)
	q.push("j", "")
	q.relaunch()
	q.out([2]uint64{2, 0})
	q.hear(2, change.Applied)
	q.out([2]uint64{3, 0}, [2]uint64{4, 3})
}

// TestNothingOvertakesWhatMustWait: what was about to go out when its group became careful.
func TestNothingOvertakesWhatMustWait(t *testing.T) {
	q := newTriedQueue(t)
	q.push("j", "")
	q.push("j", "")
	q.out([2]uint64{1, 0}, [2]uint64{2, 1})
	q.push("j", "") // is ready
	q.push("j", "")
	q.hear(1, change.Full)
	q.hearAgain(2)
	q.out([2]uint64{2, 0})
	q.hear(2, change.Applied)
	q.out([2]uint64{3, 0}, [2]uint64{4, 3})
}

func (q triedQueue) out0() int {
	return q.queue.out + q.outBytes + q.count + q.bytes + len(q.ready)
}

// TestGivingUp: from wherever it is a change goes at once, with its body, and holds up nobody.
func TestGivingUp(t *testing.T) {
	q := newTriedQueue(t)
	giveUp := func(e *entry, want change.Kind) {
		t.Helper()
		if a := q.giveUp(e, change.Outcome{Kind: change.Unavailable}, change.Outcome{Kind: change.TimedOut}); a.Kind != want {
			t.Errorf("given up it is %v, want %v", a.Kind, want)
		}
	}
	giveUp(q.push("ready", "x"), change.Unavailable)
	half := q.push("half", "x")
	q.pop()
	if body, ok := q.body(half); !ok || string(body) != "x" {
		t.Errorf("the body is %q, %v", body, ok)
	}
	giveUp(half, change.Unavailable)
	if _, ok := q.body(half); ok || q.complete(half) {
		t.Error("what was given up goes on going out")
	}
	out, behind := q.push("out", "x"), q.push("out", "x")
	q.out([2]uint64{2, 0}, [2]uint64{3, 2})
	giveUp(out, change.TimedOut)
	q.hearAgain(3)
	waits := q.push("out", "x")
	q.out([2]uint64{3, 0})
	giveUp(waits, change.Unavailable)
	q.hear(3, change.Applied)
	giveUp(behind, change.Applied) // what was answered stands
	if q.out0()+len(q.numbered)+len(q.chains) != 0 {
		t.Error("something is left")
	}
}

// TestQueueIsBounded: what waits and what is out, by number and by bytes; one large body goes alone.
func TestQueueIsBounded(t *testing.T) {
	q := newTriedQueue(t)
	for range maxOut + 1 {
		q.push("j", "")
	}
	for number := range uint64(maxOut) {
		if e, begin := q.pop(); e == nil || begin.GetNumber() != number+1 || number > 0 && begin.GetAfter() != number {
			t.Fatalf("%v goes out, want number %d", begin, number+1)
		}
	}
	q.out()
	q.hear(1, change.Applied)
	q.out([2]uint64{maxOut + 1, maxOut})
	large := strings.Repeat("x", maxOutBytes)
	q = newTriedQueue(t)
	for i := range maxQueuedBytes / maxOutBytes {
		q.push(strings.Repeat("j", i+1), large)
	}
	if _, refusal := q.add(order{change: &change.Change{Operation: change.Replace, Body: []byte("x")}}); refusal == nil || refusal.RetryAfter == 0 || !strings.Contains(refusal.Detail, "not taken") {
		t.Errorf("beyond the bound: %v", refusal)
	}
	q.out([2]uint64{1, 0})
	q.hear(1, change.Applied)
	q.out([2]uint64{2, 0})
}
