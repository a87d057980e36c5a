package groupstore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
)

// modelGroup is a group as the rules L1 to L6 have it, kept in the simplest way.
type modelGroup struct {
	job            string
	families       map[string]string // type and value by name
	pushed, failed time.Time
	broken         bool
	life           lifetime.Declaration
}

// lifeModel says what a store should expose.
type lifeModel struct {
	groups map[string]*modelGroup
	regime lifetime.Regime
	tb     testing.TB
}

// dates returns when the group is late, expires and is forgotten.
func (m *lifeModel) dates(g *modelGroup) (late, expires, forgotten int64, expecting bool) {
	terms := m.regime.TermsOf(key(m.tb, "job", g.job), g.life)
	since := g.pushed
	if since.IsZero() {
		since = g.failed
	}
	d := terms.DatesOf(since.UnixNano())
	forgotten = d.Expires
	if terms.IsExpecting() {
		forgotten = lifetime.Later(d.Expires, m.regime.ForgetAfter)
	}
	return d.Late, d.Expires, forgotten, terms.IsExpecting()
}

// present returns the group as it counts now: without what is expired; nil if nothing is left.
func (m *lifeModel) present(job string, now time.Time) *modelGroup {
	g := m.groups[job]
	if g == nil {
		return nil
	}
	_, expires, forgotten, _ := m.dates(g)
	switch at := now.UnixNano(); {
	case at >= forgotten:
		return nil
	case at >= expires:
		stub := *g
		stub.families = nil
		return &stub
	default:
		return g
	}
}

// push does what a push does, and says whether it is taken.
func (m *lifeModel) push(op change.Operation, job, name, typ, value string, life lifetime.Declaration, failed string, now time.Time) bool {
	g := m.present(job, now)
	if g == nil {
		g = &modelGroup{job: job}
	}
	next := *g
	for other := range m.groups {
		if o := m.present(other, now); o != nil && other != job && o.families[name] != "" && !strings.HasPrefix(o.families[name], typ+" ") {
			next.failed = now
			m.groups[job] = &next
			return false
		}
	}
	for other, o := range m.groups { // what is expired and in the way is gone
		if other == job || o.families[name] == "" || strings.HasPrefix(o.families[name], typ+" ") {
			continue
		}
		if stub := m.present(other, now); stub != nil {
			m.groups[other] = stub
		} else {
			delete(m.groups, other)
		}
	}
	next.families = map[string]string{}
	if op == post {
		maps.Copy(next.families, g.families)
	}
	next.families[name] = typ + " " + value
	next.pushed, next.life, next.broken = now, g.life.And(life), failed != ""
	m.groups[job] = &next
	return true
}

// text returns the lines that are to be exposed, sorted.
func (m *lifeModel) text(now time.Time) string {
	var lines []string
	for job := range m.groups {
		g := m.present(job, now)
		if g == nil {
			continue
		}
		add := func(name, value string) {
			lines = append(lines, fmt.Sprintf("%s{instance=\"\",job=%q} %s\n", name, job, value))
		}
		for name, f := range g.families {
			_, value, _ := strings.Cut(f, " ")
			add(name, value)
		}
		seconds := func(ns int64) string { return string(exposition.AppendFloat(nil, float64(ns)/1e9)) }
		date := func(t time.Time) string {
			if t.IsZero() {
				return "0"
			}
			return seconds(t.UnixNano())
		}
		add("push_time_seconds", date(g.pushed))
		add("push_failure_time_seconds", date(g.failed))
		late, expires, _, expecting := m.dates(g)
		at := now.UnixNano()
		if expires != lifetime.Never {
			add("push_expiry_timestamp_seconds", seconds(expires))
		}
		if late != lifetime.Never {
			add("push_due_timestamp_seconds", seconds(late))
		}
		if expecting {
			up := "1"
			if at >= late || at >= expires || g.broken || g.failed.After(g.pushed) {
				up = "0"
			}
			add("push_up", up)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func sortedLines(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// TestLivesModel holds the store against the model: pushes with declarations, failures, deletions, rules that change, a clock that goes on and now
// and then back, sweeps at any moment, and restarts from the log or from a snapshot between any two steps. Nothing comes back, and nothing goes early.
func TestLivesModel(t *testing.T) {
	periods := []string{"", "", "", "0", "none", "10s", "30s", "2m"}
	for round := range 40 {
		rnd := rand.New(rand.NewPCG(7, uint64(round)))
		pick := func(from []string) string { return from[rnd.IntN(len(from))] }
		c := &clock{noon}
		log := &journal{}
		cfg := groupstore.Config{Appender: log, Now: c.now}
		s := newTester(t, cfg)
		m := &lifeModel{groups: map[string]*modelGroup{}, tb: t}
		reform := func() {
			m.regime = lifetime.Regime{ForgetAfter: time.Duration(rnd.IntN(3)+1) * time.Minute}
			for _, job := range []string{"a", "b"} {
				if rnd.IntN(2) == 0 {
					texts := lifetime.Texts{TTL: pick([]string{"", "20s", "none", "3m"}), Every: pick([]string{"", "15s", "none"}), Grace: pick([]string{"", "5s"})}
					m.regime.Rules = append(m.regime.Rules, lifetime.Rule{Match: onlyJob(job), Declaration: declared(t, texts)})
				}
			}
			s.store.SetRegime(m.regime)
		}
		reform()
		var seen []groupstore.Expired
		steps := []string{}
		for range 150 {
			c.Time = c.Add(time.Duration(rnd.IntN(15)) * time.Second)
			job := pick([]string{"a", "b", "c"})
			k := key(t, "job", job)
			step := ""
			switch rnd.IntN(14) {
			case 0, 1, 2, 3, 4, 5, 6:
				op, name, typ, value := []change.Operation{put, post}[rnd.IntN(2)], pick([]string{"m", "n"}), pick([]string{"gauge", "gauge", "counter"}), fmt.Sprint(rnd.IntN(9))
				texts, failed := lifetime.Texts{TTL: pick(periods), Every: pick(periods), Grace: pick(periods)}, pick([]string{"", "", "", "exit status 1"})
				step = fmt.Sprint(op, " ", job, " ", typ, " ", name, " ", value, " ", texts, " ", failed)
				_, err := s.declare(c, op, k, "# TYPE "+name+" "+typ+"\n"+name+" "+value+"\n", texts, failed)
				if taken := m.push(op, job, name, typ, value, declared(t, texts), failed, c.Time); taken != (err == nil) {
					t.Fatalf("round %d: %s\nat %v %s: %v, want it taken: %v", round, strings.Join(steps, "\n"), c.Time, step, err, taken)
				}
			case 7:
				step = "delete " + job
				apply(t.Context(), s.store, pushing{Operation: change.Delete, Key: k, At: c.Time})
				delete(m.groups, job)
			case 8:
				step = "fail " + job
				fail(t.Context(), s.store, pushing{Key: k, At: c.Time}, "odd")
				g := m.present(job, c.Time)
				if g == nil {
					g = &modelGroup{job: job}
				}
				next := *g
				next.failed = c.Time
				m.groups[job] = &next
			case 9:
				step = "rules"
				reform()
				seen = nil
			case 10:
				step = "look"
				seen = append(seen, s.store.Expired(1+rnd.IntN(3))...)
			case 11:
				step = fmt.Sprint("sweep ", len(seen))
				for _, e := range seen {
					o, found := s.store.Apply(t.Context(), &change.Change{Operation: change.Expire, Key: e.Key, At: c.Time, Version: e.Version}, groupstore.Content{})
					if found == groupstore.Unmet || !o.IsTaken() {
						continue
					}
					// The model forgets with the store: what was removed does not come back with the clock.
					if job, _ := e.Key.Get("job"); m.present(job, c.Time) == nil {
						delete(m.groups, job)
					} else {
						m.groups[job] = m.present(job, c.Time)
					}
				}
				seen = nil
			case 12:
				step = "restart"
				s = restart(t, rnd, cfg, log, s)
				s.store.SetRegime(m.regime)
				seen = nil
			case 13:
				if rnd.IntN(3) == 0 && len(seen) == 0 {
					// Only as far as nothing was removed, which is what the hour before removing is for.
					step = "clock back"
					back := c.Add(-time.Duration(rnd.IntN(20)) * time.Second)
					if untouched(m, back, c.Time) {
						c.Time = back
					}
				}
			}
			steps = append(steps, fmt.Sprint(c.Sub(noon), " ", step))
			if got, want := sortedLines(s.full()), m.text(c.Time); got != want {
				t.Fatalf("round %d: %s\nexposed is\n%s\nwant\n%s", round, strings.Join(steps, "\n"), got, want)
			}
			s.checkGroups(slices.Values([]grouping.Key{key(t, "job", "a"), key(t, "job", "b"), key(t, "job", "c")}))
		}
	}
}

// untouched says whether no group has changed between the two times.
func untouched(m *lifeModel, from, to time.Time) bool {
	for _, g := range m.groups {
		if g.pushed.After(from) || g.failed.After(from) {
			return false
		}
	}
	return !to.Before(from)
}

type onlyJob string

func (j onlyJob) String() string { return string(j) }

func (j onlyJob) Matches(k grouping.Key) bool {
	job, _ := k.Get("job")
	return job == string(j)
}

// restart returns the store as it is after a kill: from its whole log, or from a snapshot and what the log has since, which is nothing.
func restart(t *testing.T, rnd *rand.Rand, cfg groupstore.Config, log *journal, s *tester) *tester {
	t.Helper()
	if rnd.IntN(2) == 0 {
		return load(t, cfg, cut(t, s.store))
	}
	again := newTester(t, cfg)
	for _, r := range encoded(log) {
		if err := again.store.Replay(r); err != nil {
			t.Fatal(err)
		}
	}
	return again
}
