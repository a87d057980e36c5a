package groupstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// clock is what the store takes for the time.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

// to sets the clock to so long after noon.
func (c *clock) to(after string) {
	d, err := time.ParseDuration(after)
	if err != nil {
		panic(err)
	}
	c.Time = noon.Add(d)
}

func declared(tb testing.TB, texts lifetime.Texts) lifetime.Declaration {
	tb.Helper()
	d, err := lifetime.Parse(texts)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// newLiving returns a store with a clock, without rules.
func newLiving(tb testing.TB, cfg groupstore.Config) (*tester, *clock) {
	tb.Helper()
	c := &clock{noon}
	cfg.Now = c.now
	s := newTester(tb, cfg)
	s.store.SetRegime(lifetime.Regime{ForgetAfter: 24 * time.Hour})
	return s, c
}

// declare pushes at the time of the clock.
func (t *tester) declare(c *clock, op change.Operation, k grouping.Key, text string, life lifetime.Texts, failed ...string) (change.Outcome, error) {
	t.tb.Helper()
	return apply(t.tb.Context(), t.store, pushing{
		Operation: op, Key: k, Body: bodyOf(parse(t.tb, text)...), At: c.Time, Life: declared(t.tb, life), Failed: strings.Join(failed, ""),
	})
}

// health returns what is exposed of job j, without comments and without its labels.
func (t *tester) health() string {
	t.tb.Helper()
	var lines []string
	for line := range strings.Lines(t.full()) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.Replace(line, `{instance="",job="j"}`, "", 1))
		}
	}
	return strings.Join(lines, "")
}

// TestShownAt: what is seen is judged by a clock of its own, and what is decided by that of the store.
func TestShownAt(t *testing.T) {
	shown := &clock{noon}
	s, c := newLiving(t, groupstore.Config{ShownAt: shown.now})
	k := key(t, "job", "j")
	s.declare(c, change.Replace, k, "m 1\n", lifetime.Texts{TTL: "1m"})
	c.Time = noon.Add(2 * time.Minute)
	if g, found := s.store.Group(k); !found || g.HasExpired() {
		t.Error("a group is expired that is not by the clock of what is shown")
	}
	if due := s.store.Expired(10); len(due) != 1 {
		t.Errorf("%d groups are to be removed, want 1", len(due))
	}
	shown.Time = c.Time
	if _, found := s.store.Group(k); found {
		t.Error("a group is shown that has expired")
	}
}

// TestLifeOfAGroup: what is seen of a group from its push until it is forgotten (L4 to L6).
func TestLifeOfAGroup(t *testing.T) {
	s, c := newLiving(t, groupstore.Config{})
	k := key(t, "job", "j")
	if _, err := s.declare(c, put, k, "m 1\n", lifetime.Texts{TTL: "3h", Every: "1h", Grace: "30m"}); err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) string {
		return string(exposition.AppendFloat(nil, float64(noon.Add(d).Unix())))
	}
	times := "push_due_timestamp_seconds " + at(90*time.Minute) + "\npush_expiry_timestamp_seconds " + at(3*time.Hour) +
		"\npush_failure_time_seconds 0\npush_time_seconds " + at(0) + "\n"
	for _, tt := range []struct{ after, want, state string }{
		{"0s", "m 1\n" + times + "push_up 1\n", "ok"},
		{"89m59.999999999s", "m 1\n" + times + "push_up 1\n", "ok"},
		{"90m", "m 1\n" + times + "push_up 0\n", "late"},
		{"2h59m59.999999999s", "m 1\n" + times + "push_up 0\n", "late"},
		{"3h", times + "push_up 0\n", "expired"},
		{"26h59m", times + "push_up 0\n", "expired"},
		{"27h", "", ""},
		{"1h", "m 1\n" + times + "push_up 1\n", "ok"}, // the clock was set back
	} {
		c.to(tt.after)
		if diff := cmp.Diff(tt.want, s.health()); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", tt.after, diff)
		}
		for g := range s.store.Snapshot().Groups() {
			if g.State().String() != tt.state || g.DeclaredBy() != "push" || !g.Due().Equal(noon.Add(90*time.Minute)) || !g.Expires().Equal(noon.Add(3*time.Hour)) {
				t.Errorf("after %s: %v by %q, due %v, expires %v", tt.after, g.State(), g.DeclaredBy(), g.Due(), g.Expires())
			}
			var names []string
			for f := range g.Families() {
				names = append(names, f.Name())
			}
			if got := strings.Join(names, " "); strings.TrimPrefix(got, "m ") != "push_due_timestamp_seconds push_expiry_timestamp_seconds push_failure_time_seconds push_time_seconds push_up" {
				t.Errorf("after %s it has %s", tt.after, got)
			}
		}
		counts := s.store.StateCounts()
		for state, n := range counts.All() {
			if want := state.String() == tt.state; (n == 1) != want || n > 1 {
				t.Errorf("after %s: %d groups are %v", tt.after, n, state)
			}
		}
	}
	c.to("3h")
	for _, f := range []exposition.Format{exposition.OpenMetrics100, exposition.ProtobufDelimited, exposition.ProtobufText, exposition.ProtobufCompact} {
		if got := s.write(groupstore.Form{Format: f, Escaping: metric.AllowUTF8}); !strings.Contains(got, "push_up") || strings.Contains(got, "untyped") || strings.Contains(got, "UNTYPED") {
			t.Errorf("format %v exposes %q", f, got)
		}
	}
}

// TestHealth: what push_up says (L4), and what is kept of a push that was refused.
func TestHealth(t *testing.T) {
	s, c := newLiving(t, groupstore.Config{})
	k := key(t, "job", "j")
	up := func(want string) {
		t.Helper()
		if got := s.health(); !strings.Contains(got, "push_up "+want+"\n") {
			t.Errorf("push_up is not %s:\n%s", want, got)
		}
	}
	s.declare(c, put, k, "m 1\n", lifetime.Texts{Schedule: "0 3 * * *", Grace: "1h"})
	up("1")
	s.declare(c, post, k, "n 1\n", lifetime.Texts{}, "exit status 2")
	up("0")
	for g := range s.store.Snapshot().Groups() {
		if g.JobFailure() != "exit status 2" || !g.HasFailed() || g.State() != groupstore.StateFailed || g.Series() != 2 {
			t.Errorf("%v: %q, %d series", g.State(), g.JobFailure(), g.Series())
		}
	}
	c.to("1s")
	if _, err := s.declare(c, put, k, "m 1 5\n", lifetime.Texts{TTL: "1s"}); err == nil {
		t.Error("a timestamp was taken")
	}
	up("0")
	if got := s.health(); strings.Contains(got, "push_expiry") || !strings.Contains(got, "\nn 1\n") {
		t.Errorf("a push that was refused has changed something:\n%s", got)
	}
	c.to("2s")
	s.declare(c, post, k, "m 2\n", lifetime.Texts{})
	up("1")
	c.to("5h46m39s")
	up("1")
	c.to("5h46m40s")
	up("0")
	s.declare(c, post, k, "m 2\n", lifetime.Texts{Schedule: "0"})
	if got := s.health(); strings.Contains(got, "push_up") {
		t.Errorf("what was taken back is still there:\n%s", got)
	}
}

// TestExpiredIsAbsent: what is expired neither is in the way of a push, nor part of it (L5), and a replay of the log comes to the same.
func TestExpiredIsAbsent(t *testing.T) {
	const histogram = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"
	j, other := []string{"job", "j"}, []string{"job", "j", "k", "v"}
	for _, tt := range []struct {
		name    string
		before  string // of group other, which expires
		op      change.Operation
		key     []string
		body    string
		life    lifetime.Texts // of the one that expires
		refused bool           // while it has not expired
		stays   bool           // something is expected of the group other
		want    string
	}{
		{name: "another type", before: "# TYPE m counter\nm 1\n", key: j, body: "# TYPE m gauge\nm 2\n", refused: true, want: "# TYPE m gauge\nm{instance=\"\",job=\"j\"} 2\n"},
		{name: "the same series", before: "m 1\n", key: j, body: "m{k=\"v\"} 2\n", refused: true, want: "# TYPE m untyped\nm{instance=\"\",job=\"j\",k=\"v\"} 2\n"},
		{name: "a suffix", before: histogram, key: j, body: "h_count 2\n", refused: true, want: "# TYPE h_count untyped\nh_count{instance=\"\",job=\"j\"} 2\n"},
		{name: "the suffix of another", before: "h_count 1\n", key: j, body: histogram, refused: true, want: "# TYPE h histogram\nh_bucket{instance=\"\",job=\"j\",le=\"+Inf\"} 1\nh_sum{instance=\"\",job=\"j\"} 1\nh_count{instance=\"\",job=\"j\"} 1\n"},
		{name: "an empty label", before: "m 1\n", key: []string{"job", "j", "k", "v", "l", ""}, body: "m 2\n", refused: true, want: "# TYPE m untyped\nm{instance=\"\",job=\"j\",k=\"v\",l=\"\"} 2\n"},
		{name: "nothing is in the way", before: "m 1\n", key: j, body: "m 2\n", want: "# TYPE m untyped\nm{instance=\"\",job=\"j\"} 2\n"},
		{name: "a push onto it", before: "m 1\n", op: put, key: other, body: "m 2\n", want: "# TYPE m untyped\nm{instance=\"\",job=\"j\",k=\"v\"} 2\n"},
		{name: "a POST is a PUT", before: "m 1\nn 1\n", op: post, key: other, body: "m 2\n", want: "# TYPE m untyped\nm{instance=\"\",job=\"j\",k=\"v\"} 2\n"},
		{
			name: "a POST onto a stub", before: "m 1\nn 1\n", op: post, key: other, body: "m 2\n", life: lifetime.Texts{TTL: "1h", Every: "1d"}, stays: true,
			want: "# TYPE m untyped\nm{instance=\"\",job=\"j\",k=\"v\"} 2\n",
		},
		{
			name: "a stub is in the way of nobody", before: "# TYPE m counter\nm 1\n", key: j, body: "# TYPE m gauge\nm 2\n", life: lifetime.Texts{TTL: "1h", Every: "1d"}, refused: true, stays: true,
			want: "# TYPE m gauge\nm{instance=\"\",job=\"j\"} 2\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := &journal{}
			s, c := newLiving(t, groupstore.Config{Appender: log})
			if tt.life == (lifetime.Texts{}) {
				tt.life.TTL = "1h"
			}
			if tt.op == 0 {
				tt.op = put
			}
			if _, err := s.declare(c, put, key(t, other...), tt.before, tt.life); err != nil {
				t.Fatal(err)
			}
			c.to("59m59s")
			if _, err := s.declare(c, tt.op, key(t, tt.key...), tt.body, lifetime.Texts{}); (err != nil) != tt.refused {
				t.Errorf("before it expires: %v", err)
			}
			if !tt.refused && tt.op == put && tt.key[len(tt.key)-1] == "v" || tt.op == post {
				c.to("3h") // it was pushed to just now
			} else {
				c.to("1h")
			}
			if _, err := s.declare(c, tt.op, key(t, tt.key...), tt.body, lifetime.Texts{}); err != nil {
				t.Fatal(err)
			}
			var own []string
			for line := range strings.Lines(s.text()) {
				if !strings.Contains(line, "push_up") && !strings.Contains(line, "push_due") && !strings.Contains(line, "push_expiry") {
					own = append(own, line)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(own, "")); diff != "" {
				t.Errorf("exposition (-want +got):\n%s", diff)
			}
			if stays := strings.Contains(s.text(), "push_up"); stays != tt.stays {
				t.Errorf("something is expected: %v", stays)
			}
			again, d := newLiving(t, groupstore.Config{})
			d.Time = c.Time
			for _, r := range encoded(log) {
				if err := again.store.Replay(r); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(s.full(), again.full()); diff != "" {
				t.Errorf("after a replay (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(s.store.Tables(), again.store.Tables()); diff != "" {
				t.Errorf("tables after a replay (-before +after):\n%s", diff)
			}
		})
	}
}

// TestRefusedOntoExpired: a push that is refused does not bring back what is expired.
func TestRefusedOntoExpired(t *testing.T) {
	for _, tt := range []struct {
		life lifetime.Texts
		want string
	}{
		{lifetime.Texts{TTL: "1h"}, "push_failure_time_seconds %[2]s\npush_time_seconds 0\n"},
		{lifetime.Texts{TTL: "1h", Every: "2h"}, "push_due_timestamp_seconds %[3]s\npush_expiry_timestamp_seconds %[4]s\npush_failure_time_seconds %[2]s\npush_time_seconds %[1]s\npush_up 0\n"},
	} {
		s, c := newLiving(t, groupstore.Config{})
		k := key(t, "job", "j")
		s.declare(c, put, k, "m 1\n", tt.life)
		c.to("1h30m")
		if _, err := s.declare(c, post, k, "n 1 5\n", lifetime.Texts{}); err == nil {
			t.Error("a timestamp was taken")
		}
		text := func(d time.Duration) string {
			return string(exposition.AppendFloat(nil, float64(noon.Add(d).Unix())))
		}
		want := fmt.Sprintf(tt.want+"%.0[1]s%.0[2]s%.0[3]s%.0[4]s", text(0), text(90*time.Minute), text(2*time.Hour), text(time.Hour))
		if diff := cmp.Diff(want, s.health()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.life, diff)
		}
	}
}

// expire removes what has expired, as package lifecycle does, and returns how many groups something was done to.
func (t *tester) expire() (done int) {
	t.tb.Helper()
	for _, e := range t.store.Expired(1000) {
		o, found := t.store.Apply(t.tb.Context(), &change.Change{Operation: change.Expire, Key: e.Key, At: noon, Version: e.Version}, groupstore.Content{})
		if found != groupstore.Unmet && o.IsTaken() {
			done++
		}
	}
	return done
}

// TestExpire: what has expired is removed, if it still has, and nobody sees it.
func TestExpire(t *testing.T) {
	s, c := newLiving(t, groupstore.Config{})
	a, b, j := key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "j")
	s.declare(c, put, a, "m 1\n", lifetime.Texts{TTL: "1h"})
	s.declare(c, put, b, "m 1\n", lifetime.Texts{TTL: "2h"})
	s.declare(c, put, j, "m 1\n", lifetime.Texts{TTL: "1h", Every: "30m"})
	if n := s.expire(); n != 0 {
		t.Errorf("%d groups are removed at once", n)
	}
	c.to("30m")
	s.declare(c, put, b, "m 1\n", lifetime.Texts{TTL: "1m"}) // expires earlier than before
	c.to("1h")
	before := s.health()
	if n := s.expire(); n != 3 {
		t.Errorf("%d groups are removed after an hour", n)
	}
	if diff := cmp.Diff(before, s.health()); diff != "" {
		t.Errorf("removing is seen (-before +after):\n%s", diff)
	}
	if stats := s.store.Stats(); stats.Groups != 1 || stats.Series != 0 {
		t.Errorf("left are %+v", stats)
	}
	if n := s.expire(); n != 0 {
		t.Errorf("%d groups are removed again", n)
	}
	c.to("25h")
	if n := s.expire(); n != 1 || s.store.Stats().Groups != 0 {
		t.Errorf("%d groups are forgotten, left are %+v", n, s.store.Stats())
	}

	// Seen, and then pushed to, or alive again since the clock was set back: a push wins, and nothing is lost.
	c.to("0s")
	s.declare(c, put, a, "m 1\n", lifetime.Texts{TTL: "1h"})
	s.declare(c, put, b, "m 1\n", lifetime.Texts{TTL: "1h"})
	c.to("1h")
	seen := s.store.Expired(1000)
	s.declare(c, put, a, "m 2\n", lifetime.Texts{})
	c.to("59m")
	for _, e := range seen {
		if _, found := s.store.Apply(t.Context(), &change.Change{Operation: change.Expire, Key: e.Key, At: noon, Version: e.Version}, groupstore.Content{}); found != groupstore.Unmet {
			t.Errorf("%v is removed", e.Key)
		}
	}
	if stats := s.store.Stats(); len(seen) != 2 || stats.Series != 2 {
		t.Errorf("of %d groups are left %+v", len(seen), stats)
	}
	c.to("3h")
	if n := s.expire(); n != 1 || strings.Count(s.full(), "\nm{") != 1 {
		t.Errorf("%d groups are removed in the end, want that which was not pushed to: what was declared of the other had expired with it", n)
	}
}

// TestWhileAgent: what came through an agent is exposed while the agent is there, and for a while after (L7).
func TestWhileAgent(t *testing.T) {
	agents := presence{}
	s, c := newLiving(t, groupstore.Config{AccountLabel: "agent", Presence: agents})
	s.store.SetRegime(lifetime.Regime{Rules: []lifetime.Rule{{Match: all{}, WhileAgent: lifetime.Period(time.Hour)}}})
	s.declare(c, put, key(t, "job", "j"), "m 1\n", lifetime.Texts{})
	s.declare(c, put, key(t, "job", "j", "agent", "a"), "m 2\n", lifetime.Texts{})
	s.declare(c, put, key(t, "job", "j", "agent", "b"), "m 3\n", lifetime.Texts{Every: "100d"})
	count := func(family string, want int) {
		t.Helper()
		if n := strings.Count(s.full(), "\n"+family+"{"); n != want {
			t.Errorf("%d series of %s, want %d:\n%s", n, family, want, s.full())
		}
	}
	count("m", 3)
	agents["a"], agents["b"] = noon, noon
	c.to("59m")
	count("m", 3)
	c.to("1h")
	count("m", 1)
	count("push_up", 1)
	count("push_time_seconds", 2)
	if counts := s.store.StateCounts(); counts[groupstore.StateAway] != 2 || counts[groupstore.StateOK] != 1 {
		t.Errorf("states %v", counts)
	}
	if n := s.expire(); n != 0 {
		t.Errorf("%d groups are removed", n)
	}
	delete(agents, "a")
	count("m", 2)
}

// presence says since when agents are gone.
type presence map[string]time.Time

func (p presence) Present(agent string) (bool, time.Time) {
	gone, is := p[agent]
	return !is, gone
}

// all matches every group.
type all struct{}

func (all) Matches(grouping.Key) bool { return true }
func (all) String() string            { return "all" }

// TestRegime: rules are looked up, so that other rules hold for all groups at once (L2), and back.
func TestRegime(t *testing.T) {
	s, c := newLiving(t, groupstore.Config{})
	for i := range 10 {
		s.declare(c, put, key(t, "job", fmt.Sprint(i)), "m 1\n", lifetime.Texts{})
	}
	s.declare(c, put, key(t, "job", "none"), "m 1\n", lifetime.Texts{TTL: "none"})
	before := s.full()
	c.to("2h")
	hour := lifetime.Regime{Rules: []lifetime.Rule{{Match: all{}, Declaration: declared(t, lifetime.Texts{TTL: "1h"})}}}
	if got, want := s.store.SetRegime(hour), (groupstore.Reform{Groups: 11, Expired: 10}); got != want {
		t.Errorf("SetRegime = %+v, want %+v", got, want)
	}
	if n := strings.Count(s.full(), "\nm{"); n != 1 {
		t.Errorf("%d groups are exposed, want 1", n)
	}
	if n := len(s.store.Expired(1000)); n != 10 {
		t.Errorf("%d groups are expired", n)
	}
	if got, want := s.store.SetRegime(lifetime.Regime{}), (groupstore.Reform{Groups: 11}); got != want {
		t.Errorf("SetRegime back = %+v, want %+v", got, want)
	}
	if diff := cmp.Diff(before, s.full()); diff != "" {
		t.Errorf("after a mistake was taken back (-before +after):\n%s", diff)
	}
	if n := len(s.store.Expired(1000)); n != 0 {
		t.Errorf("%d groups are expired", n)
	}
}

// TestExpiredMakesRoom: where a limit is reached, what is expired gives way to what is alive: of an agent's own limit only the agent's own.
func TestExpiredMakesRoom(t *testing.T) {
	fill := func(cfg groupstore.Config, life lifetime.Texts) (*tester, *clock) {
		s, c := newLiving(t, cfg)
		for i := range 3 {
			for _, agent := range []string{"a", "b"} {
				if _, err := s.declare(c, put, key(t, "job", fmt.Sprint(i), "agent", agent), "m 1\nn 1\n", life); err != nil {
					t.Fatal(err)
				}
			}
		}
		return s, c
	}
	for _, tt := range []struct {
		name   string
		cfg    groupstore.Config
		life   lifetime.Texts
		room   bool
		groups int
	}{
		{"groups of the store", groupstore.Config{MaxGroups: 6}, lifetime.Texts{TTL: "1h"}, true, 1},
		{"series of the store", groupstore.Config{MaxSeries: 12}, lifetime.Texts{TTL: "1h"}, true, 1},
		{"groups of an agent", groupstore.Config{AccountLabel: "agent", MaxAccountGroups: 3}, lifetime.Texts{TTL: "1h"}, true, 4},
		{"series of an agent", groupstore.Config{AccountLabel: "agent", MaxAccountSeries: 6}, lifetime.Texts{TTL: "1h"}, true, 4},
		{"series of stubs", groupstore.Config{MaxSeries: 12}, lifetime.Texts{TTL: "1h", Every: "1d"}, true, 7},
		{"groups that are stubs", groupstore.Config{MaxGroups: 6}, lifetime.Texts{TTL: "1h", Every: "1d"}, false, 6},
		{"nothing is expired", groupstore.Config{MaxGroups: 6}, lifetime.Texts{TTL: "3h"}, false, 6},
	} {
		s, c := fill(tt.cfg, tt.life)
		c.to("2h")
		for i := range 2 { // if in vain, then not again at once
			_, err := s.declare(c, put, key(t, "job", "new", "agent", "a"), "m 1\n", lifetime.Texts{})
			if (err == nil) != tt.room || s.store.Stats().Groups != tt.groups {
				t.Errorf("%s, %d: %v, %d groups", tt.name, i, err, s.store.Stats().Groups)
			}
		}
	}
}

// TestExpiringIsBounded: the list of those that expire has each group that is there once, however often and for how long it was pushed to.
func TestExpiringIsBounded(t *testing.T) {
	s, c := newLiving(t, groupstore.Config{})
	for i := range 1000 {
		s.declare(c, put, key(t, "job", "j"), "m 1\n", lifetime.Texts{TTL: fmt.Sprintf("%dh", 2000-i)})
		s.declare(c, put, key(t, "job", fmt.Sprint(i)), "m 1\n", lifetime.Texts{TTL: "2h"})
		if i%2 == 0 {
			s.delete(key(t, "job", fmt.Sprint(i)))
		}
	}
	if n := s.store.Expiring(); n != 501 {
		t.Errorf("%d groups are on the list, want 501", n)
	}
	c.to("2h")
	if n := len(s.store.Expired(10_000)); n != 500 || s.store.Expiring() != 1 {
		t.Errorf("%d groups are expired, and %d are left on the list", n, s.store.Expiring())
	}
	if err := wipe(t.Context(), s.store); err != nil || s.store.Expiring() != 0 {
		t.Errorf("after a wipe %d are left: %v", s.store.Expiring(), err)
	}
}
