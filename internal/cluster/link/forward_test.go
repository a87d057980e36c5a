package link_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/change"
	"pushrelay/internal/faultproxy"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/tunnel/relayconn"
)

// TestAnyRelayTakesAnyPush: what is asked of one relay is decided by another, whatever it is, and how it ended is told as that one said.
func TestAnyRelayTakesAnyPush(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	b := c.members["b"]
	b.epoch.Store(7)
	c.members["a"].epoch.Store(7)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	large := pushOf(t, "large", 1)
	large.Body = append(large.Body, []byte("# HELP done "+strings.Repeat("x", 200<<10)+"\n")...)
	agents := pushOf(t, "agents", 2)
	agents.Agent, agents.Epoch, agents.Origin = "site", 7, &change.Origin{Journal: [16]byte{1}, Sequence: 5}
	old := pushOf(t, "agents", 3)
	old.Agent, old.Epoch, old.Origin = "site", 6, &change.Origin{Journal: [16]byte{1}, Sequence: 6}
	refused := pushOf(t, "refused", 1)
	refused.Agent, refused.Epoch, refused.Origin = "site", 7, &change.Origin{Journal: [16]byte{1}, Sequence: 7}
	refused.Refused = change.Refuse(change.TooLarge, "it is much too large")
	broken := pushOf(t, "broken", 1)
	broken.Body = []byte("this is none\n")
	once := pushOf(t, "once", 1)
	once.Once = change.NewOnce("k", once)
	reused := pushOf(t, "once", 2)
	reused.Once = change.NewOnce("k", reused)
	for _, tt := range []struct {
		what   string
		change *change.Change
		want   change.Kind
		shows  string
	}{
		{"a push", pushOf(t, "small", 1), change.Applied, `done{instance="",job="small",n="1"} 1`},
		{"one of many parts", large, change.Applied, `done{instance="",job="large",n="1"} 1`},
		{"an agent's", agents, change.Applied, `done{agent="site",instance="",job="agents",n="2"} 2`},
		{"an agent's again", agents, change.Applied, `done{agent="site",instance="",job="agents",n="2"} 2`},
		{"an agent's of an earlier session", old, change.NotCurrent, `done{agent="site",instance="",job="agents",n="2"} 2`},
		{"one that was refused before", refused, change.TooLarge, ""},
		{"a broken one", broken, change.Invalid, ""},
		{"one with a key", once, change.Applied, `done{instance="",job="once",n="1"} 1`},
		{"the same again", once, change.Applied, `done{instance="",job="once",n="1"} 1`},
		{"another one with the key", reused, change.Reused, `done{instance="",job="once",n="1"} 1`},
		{"a deletion", &change.Change{Operation: change.Delete, Key: keyOf(t, "job", "small"), At: time.Now()}, change.Applied, ""},
	} {
		o := b.Forwarder.Apply(ctx, tt.change)
		if o.Kind != tt.want {
			t.Errorf("%s: %+v, want %v", tt.what, o, tt.want)
		}
		if text := c.text(); !strings.Contains(text, tt.shows) || tt.what == "a deletion" && strings.Contains(text, "small") {
			t.Errorf("%s: the store shows\n%.2000s", tt.what, text)
		}
	}
	if got := c.takeDecided(); slices.ContainsFunc(got, func(d string) bool { return !strings.HasPrefix(d, "a ") }) {
		t.Errorf("somebody else decided: %q", got)
	}
}

// TestOtherChangesGoTheSameWay: deletions of a version, and all that the other interfaces do.
func TestOtherChangesGoTheSameWay(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	b := c.members["b"]
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, job := range []string{"x", "y"} {
		if o := b.Forwarder.Apply(ctx, pushOf(t, job, 1)); !o.IsTaken() {
			t.Fatalf("%+v", o)
		}
	}
	door := b.Forwarder.Store()
	remove := &change.Change{Operation: change.Delete, Key: keyOf(t, "job", "x"), At: time.Now()}
	remove.Version = 99
	if o := door.ApplyBodiless(ctx, remove); o.Kind != change.Changed {
		t.Errorf("a deletion of another version: %+v", o)
	}
	remove.Version = 1
	if o := door.ApplyBodiless(ctx, remove); !o.IsTaken() || strings.Contains(c.text(), `"x"`) {
		t.Errorf("a deletion: %+v", o)
	}
	expire := &change.Change{Operation: change.Expire, Key: keyOf(t, "job", "y"), At: time.Now(), Version: 2}
	if o := door.ApplyBodiless(ctx, expire); o.Kind != change.Changed && !o.IsTaken() || !strings.Contains(c.text(), `"y"`) {
		t.Errorf("what is not expired: %+v", o)
	}
	if o := door.ApplyBodiless(ctx, &change.Change{Operation: change.Wipe}); !o.IsTaken() || strings.Contains(c.text(), `"y"`) {
		t.Errorf("a wipe: %+v", o)
	}
	gone := pushOf(t, "z", 1)
	gone.Operation, gone.Body, gone.Agent, gone.Origin = change.Delete, nil, "site", &change.Origin{Journal: [16]byte{1}, Sequence: 3}
	if o := b.Forwarder.Apply(ctx, gone); !o.IsTaken() || len(c.store().Journals("site")) != 1 {
		t.Errorf("an agent's deletion: %+v, traces of %d journals", o, len(c.store().Journals("site")))
	}
	b.Forwarder.Forget("site", [16]byte{1}, 3)
	later := pushOf(t, "z", 1)
	later.Agent, later.Origin = "site", &change.Origin{Journal: [16]byte{1}, Sequence: 3}
	eventually(t, "the leader forgets what the agent is past", func() bool {
		return !b.Forwarder.Apply(ctx, later).Duplicate
	})
}

// TestOnceOnly: a connection that is cut at any moment makes nothing happen twice, and the answer is that of the first time.
func TestOnceOnly(t *testing.T) {
	for _, when := range []string{"before it is decided", "after it is decided", "again and again"} {
		t.Run(when, func(t *testing.T) {
			c := newCluster(t, "a", "b")
			c.lead("a")
			a, b := c.members["a"], c.members["b"]
			add := func(i int) *change.Change {
				p := pushOf(t, fmt.Sprint("j", i%3), 1)
				p.Operation, p.Body = change.Add, []byte("# TYPE sum counter\nsum 1\n")
				return p
			}
			letGo := c.store().commits.hold()
			if when == "before it is decided" {
				a.proxy.Set(faultproxy.Conditions{Freeze: faultproxy.Up})
			}
			var all []*pending
			for i := range 30 {
				all = append(all, b.push(t, add(i)))
			}
			if when != "before it is decided" {
				eventually(t, "all are decided", func() bool { return len(c.takeDecided()) > 0 || b.Forwarder.Out() == 30 })
			}
			cuts := 1
			if when == "again and again" {
				cuts = 5
			}
			for range cuts {
				eventually(t, "there is a connection", func() bool { return a.proxy.Cut(faultproxy.Reset) > 0 })
				a.proxy.Set(faultproxy.Conditions{})
			}
			letGo()
			for i, p := range all {
				if o := <-p.answer; !o.IsTaken() {
					t.Errorf("push %d: %+v", i, o)
				}
			}
			for i := range 3 {
				if want := fmt.Sprintf("sum{instance=\"\",job=\"j%d\"} 10\n", i); !strings.Contains(c.text(), want) {
					t.Errorf("the store lacks %q:\n%s", want, c.text())
				}
			}
		})
	}
}

// TestOldOrder: to a new leader all goes again that is not decided, in the order in which it went first, before anything new; what the one before had
// not committed is lost with it, and takes effect once.
func TestOldOrder(t *testing.T) {
	for _, next := range []string{"c", "b"} { // another relay, or the one that was asked
		t.Run("to "+next, func(t *testing.T) {
			c := newCluster(t, "a", "b", "c")
			b := c.members["b"]
			var all []*pending
			want := func(leader string, from, to int) (order []string) {
				for i := from; i < to; i++ {
					order = append(order, fmt.Sprint(leader, " ", i))
				}
				return order
			}
			for i := range 10 { // no relay leads
				all = append(all, b.push(t, pushOf(t, "j", i)))
			}
			letGo := c.store().commits.hold()
			defer letGo()
			c.lead("a")
			var got []string
			eventually(t, "the first leader decides them", func() bool { got = append(got, c.takeDecided()...); return len(got) >= 10 })
			if diff := cmp.Diff(want("a", 0, 10), got); diff != "" {
				t.Errorf("the first leader (-want +got):\n%s", diff)
			}
			c.lead("")
			for i := range 10 {
				all = append(all, b.push(t, pushOf(t, "j", 10+i)))
			}
			got = nil
			c.lead(next, newTruth(c))
			for i, p := range all {
				if o := <-p.answer; !o.IsTaken() || o.Duplicate {
					t.Errorf("push %d: %+v", i, o)
				}
			}
			if diff := cmp.Diff(want(next, 0, 20), c.takeDecided()); diff != "" {
				t.Errorf("the next leader (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusalsAreToldAsTheyWere: a push that was refused, and whose answer was lost, hears that after all: nothing behind it in its group was decided before
// it was known.
func TestRefusalsAreToldAsTheyWere(t *testing.T) {
	c := newCluster(t, "a", "b")
	a, b := c.members["a"], c.members["b"]
	var all []*pending
	for i := range 6 {
		p := pushOf(t, "j", i)
		if i%2 == 0 {
			p.Body = []byte("# TYPE done gauge\ndone{n=\"1\"} 1\ndone{n=\"1\"} 2\n") // the same series twice
		}
		all = append(all, b.push(t, p))
	}
	letGo := c.store().commits.hold()
	c.lead("a")
	seen := 0
	for range 3 {
		eventually(t, "the store has looked at some", func() bool { seen += len(c.takeDecided()); return seen >= 6 })
		a.proxy.Cut(faultproxy.Reset)
	}
	letGo()
	for i, p := range all {
		o := <-p.answer
		if want := map[bool]change.Kind{true: change.Invalid, false: change.Applied}[i%2 == 0]; o.Kind != want && (want != change.Invalid || o.Kind != change.Inconsistent) {
			t.Errorf("push %d: %+v, want %v", i, o, want)
		}
	}
}

// TestNotTakenAndInDoubt: what certainly did not happen is told as that, and what may have as in doubt.
func TestNotTakenAndInDoubt(t *testing.T) {
	c := newCluster(t, "a", "b")
	b := c.members["b"]
	within := func(p *change.Change) change.Outcome {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return b.Forwarder.Apply(ctx, p)
	}
	o := within(pushOf(t, "j", 1))
	if o.Kind != change.Unavailable || o.RetryAfter == 0 || !strings.Contains(o.Detail, "no relay decides at present: the push was not taken") {
		t.Errorf("without a leader: %+v", o)
	}
	c.lead("a")
	letGo := c.store().commits.hold()
	defer letGo()
	add := pushOf(t, "j", 2)
	add.Operation = change.Add
	for _, p := range []*change.Change{pushOf(t, "k", 1), add} {
		o = within(p)
		if o.Kind != change.TimedOut || !strings.Contains(o.Detail, "in doubt") || o.MayCountTwice != (p.Operation == change.Add) {
			t.Errorf("not committed in time: %+v", o)
		}
	}
	if b.Forwarder.Waiting() != 0 {
		t.Errorf("%d changes wait for ever", b.Forwarder.Waiting())
	}
	c.lead("a", newTruth(c))
	if o := within(pushOf(t, "l", 3)); !o.IsTaken() || strings.Contains(c.text(), `job="k"`) {
		t.Errorf("what was given up is sent again: %+v\n%s", o, c.text())
	}
}

// TestGoneIncarnation: of a process whose key is gone nothing takes effect, also of what has come already; and what the store has of it goes.
func TestGoneIncarnation(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	b := c.members["b"]
	if o := b.Forwarder.Apply(t.Context(), pushOf(t, "j", 1)); !o.IsTaken() {
		t.Fatalf("%+v", o)
	}
	if n := len(c.store().Journals("")); n != 1 {
		t.Errorf("the store has marks of %d processes", n)
	}
	c.set(func() { c.asleep["b"] = true })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if o := b.Forwarder.Apply(ctx, pushOf(t, "j", 2)); o.Kind != change.NotCurrent || strings.Contains(c.text(), `n="2"`) {
		t.Errorf("%+v\n%s", o, c.text())
	}
	if o := c.members["a"].Forwarder.Apply(t.Context(), pushOf(t, "j", 3)); !o.IsTaken() {
		t.Errorf("%+v", o)
	}
	if n := len(c.store().Journals("")); n != 0 {
		t.Errorf("the store has marks of %d processes after the next record", n)
	}
}

// TestTracesAreForgotten: of deletions that are settled nothing is left.
func TestTracesAreForgotten(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	b := c.members["b"]
	remove := func(job string) {
		if o := b.Forwarder.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: keyOf(t, "job", job), At: time.Now()}); !o.IsTaken() {
			t.Fatalf("%+v", o)
		}
	}
	for i := range 20 {
		remove(fmt.Sprint("j", i))
	}
	eventually(t, "they are forgotten", func() bool {
		remove("again") // the store is told with a change
		return c.traces() <= 2
	})
}

// TestTracesOfWhoRunsStay: a deletion whose answer was lost is known again when it comes again, however long that takes: it does not delete what came meanwhile.
func TestTracesOfWhoRunsStay(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	a, b := c.members["a"], c.members["b"]
	letGo := c.store().commits.hold()
	deletion := b.push(t, &change.Change{Operation: change.Delete, Key: keyOf(t, "job", "j"), At: time.Now()})
	eventually(t, "it is decided", func() bool { return c.traces() == 1 })
	later := make(chan change.Outcome, 1)
	go func() { later <- a.Forwarder.Apply(t.Context(), pushOf(t, "j", 1)) }()
	eventually(t, "the group is there again", func() bool { _, there := c.store().Group(keyOf(t, "job", "j")); return there })
	looks := a.looks.Load()
	eventually(t, "the leader has looked whose process is gone", func() bool { return a.looks.Load() > looks+1 })
	a.proxy.Cut(faultproxy.Reset)
	eventually(t, "it went out again", func() bool { return b.Forwarder.Resent() == 1 })
	letGo()
	for _, answer := range []change.Outcome{<-deletion.answer, <-later} {
		if !answer.IsTaken() {
			t.Errorf("%+v", answer)
		}
	}
	if !strings.Contains(c.text(), `job="j"`) {
		t.Errorf("what was pushed after the deletion is gone:\n%s", c.text())
	}
}

// TestOneStreamOfAMember: a later stream of a member ends its earlier one, also where nobody has noticed that the connection of that is gone.
func TestOneStreamOfAMember(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	b := c.members["b"]
	if o := b.Forwarder.Apply(t.Context(), pushOf(t, "j", 1)); !o.IsTaken() {
		t.Fatalf("%+v", o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := c.dialAs(t, "b").Forward(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hello := &relayv1.ForwardRequest{Part: &relayv1.ForwardRequest_Hello{Hello: &relayv1.ForwardHello{Incarnation: b.incarnation[:]}}}
	if err := stream.Send(hello); err != nil {
		t.Fatal(err)
	}
	// The member itself comes back, and takes the place again.
	if _, err := stream.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("the stream ends with %v, want %v", err, codes.FailedPrecondition)
	}
	if o := b.Forwarder.Apply(ctx, pushOf(t, "j", 2)); !o.IsTaken() || !strings.Contains(c.text(), `n="2"`) {
		t.Errorf("%+v\n%s", o, c.text())
	}
}

// dialAs returns a client of member a with a certificate of a member, on a connection of its own.
func (c *cluster) dialAs(t *testing.T, name string) relayv1.MemberServiceClient {
	t.Helper()
	conn := c.connAs(t, name)
	cc, err := relayconn.NewClient(conn, conn.ConnectionState(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return relayv1.NewMemberServiceClient(cc)
}

func (c *cluster) traces() (n int) {
	f := c.store().Follow()
	defer f.Close()
	for id := range f.Take().Records() {
		if id.Kind == groupstore.TraceRecord {
			n++
		}
	}
	return n
}

// TestOwnCopyHasIt: an answer waits for the own copy, and not for ever; the leader's own do not.
func TestOwnCopyHasIt(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	a, b := c.members["a"], c.members["b"]
	asked, has := make(chan uint64, 1), make(chan struct{})
	wait := func(ctx context.Context, position uint64) error {
		asked <- position
		select {
		case <-has:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.waitFor.Store(&wait)
	a.waitFor.Store(&wait)
	answer := make(chan change.Outcome, 1)
	go func() { answer <- b.Forwarder.Apply(t.Context(), pushOf(t, "j", 1)) }()
	select {
	case position := <-asked:
		if position != c.store().Position() {
			t.Errorf("it waits for position %d, want %d", position, c.store().Position())
		}
	case o := <-answer:
		t.Fatalf("it does not wait: %+v", o)
	}
	select {
	case o := <-answer:
		t.Errorf("it does not wait: %+v", o)
	default:
	}
	close(has)
	if o := <-answer; !o.IsTaken() {
		t.Errorf("%+v", o)
	}
	has = make(chan struct{})
	if o := b.Forwarder.Apply(t.Context(), pushOf(t, "j", 2)); !o.IsTaken() {
		t.Errorf("with a copy that stays behind: %+v", o)
	}
	<-asked
	if o := a.Forwarder.Apply(t.Context(), pushOf(t, "j", 3)); !o.IsTaken() || len(asked) > 0 {
		t.Errorf("on the leader: %+v, waits: %v", o, len(asked) > 0)
	}
}

// TestDeposedLeaderHandsOn: a push that comes to a relay which has just ceased to lead is decided by the next one.
func TestDeposedLeaderHandsOn(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	a := c.members["a"]
	if o := a.Forwarder.Apply(t.Context(), pushOf(t, "j", 1)); !o.IsTaken() {
		t.Fatalf("%+v", o)
	}
	c.lead("b")
	if o := a.Forwarder.Apply(t.Context(), pushOf(t, "j", 2)); !o.IsTaken() || !strings.Contains(c.text(), `n="2"`) {
		t.Errorf("%+v\n%s", o, c.text())
	}
}
