package lifetime_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

func declare(t *testing.T, texts lifetime.Texts) lifetime.Declaration {
	t.Helper()
	d, err := lifetime.Parse(texts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTexts: what is read is written as the same, and what cannot be read is named with what to do.
func TestTexts(t *testing.T) {
	for _, texts := range []lifetime.Texts{
		{},
		{TTL: "3d"},
		{TTL: "1d12h", Every: "1d", Grace: "30m"},
		{TTL: "none", Every: "none", Grace: "none"},
		{TTL: "0", Every: "0", Grace: "0"},
		{Schedule: "15 3 * * *"},
		{Schedule: "TZ=Europe/Berlin 15 3 * * 1-5", Grace: "1h"},
		{TTL: "1ms"},
		{TTL: "100y"},
	} {
		if got := declare(t, texts).Texts(); got != texts {
			t.Errorf("%+v is written as %+v", texts, got)
		}
	}
	for _, tt := range []struct{ texts, want lifetime.Texts }{
		{lifetime.Texts{TTL: "72h", Every: "0s"}, lifetime.Texts{TTL: "3d", Every: "0"}},
		{lifetime.Texts{Schedule: "none"}, lifetime.Texts{Every: "none"}},
		{lifetime.Texts{Schedule: "0"}, lifetime.Texts{Every: "0"}},
		{lifetime.Texts{Schedule: " 15\t3\n*  * * "}, lifetime.Texts{Schedule: "15 3 * * *"}},
	} {
		if got := declare(t, tt.texts).Texts(); got != tt.want {
			t.Errorf("%+v is written as %+v, want %+v", tt.texts, got, tt.want)
		}
	}
	for _, tt := range []struct {
		texts lifetime.Texts
		want  string
	}{
		{lifetime.Texts{Every: "1h", Schedule: "* * * * *"}, "every and schedule are both set"},
		{lifetime.Texts{Every: "none", Schedule: "none"}, "every and schedule are both set"},
		{lifetime.Texts{TTL: "5"}, `ttl is "5", want a duration`},
		{lifetime.Texts{TTL: "-5m"}, `ttl is "-5m"`},
		{lifetime.Texts{TTL: " 5m"}, `ttl is " 5m"`},
		{lifetime.Texts{TTL: "101y"}, `at most 100y`},
		{lifetime.Texts{TTL: strings.Repeat("9", 1000) + "y"}, `ttl is "` + strings.Repeat("9", 64) + `"`},
		{lifetime.Texts{Every: "tomorrow"}, `every is "tomorrow"`},
		{lifetime.Texts{Grace: "1.5h"}, `grace is "1.5h"`},
		{lifetime.Texts{Schedule: "15 3 * *"}, "has not just five fields"},
		{lifetime.Texts{Schedule: "15 3 * * * *"}, "has not just five fields"},
		{lifetime.Texts{Schedule: "@daily"}, "has not just five fields"},
		{lifetime.Texts{Schedule: "61 3 * * *"}, "above maximum"},
		{lifetime.Texts{Schedule: "*/0 3 * * *"}, "step"},
		{lifetime.Texts{Schedule: "0 0 30 2 *"}, "never comes"},
		{lifetime.Texts{Schedule: "TZ=Europe/Bonn 15 3 * * *"}, `no time zone "Europe/Bonn"`},
		{lifetime.Texts{Schedule: "TZ= 15 3 * * *"}, `no time zone ""`},
		{lifetime.Texts{Schedule: "TZ=Local 15 3 * * *"}, `no time zone "Local"`},
		{lifetime.Texts{Schedule: "TZ=../../etc/passwd 15 3 * * *"}, "no time zone"},
		{lifetime.Texts{Schedule: "TZ=0"}, "no time zone"},
		{lifetime.Texts{Schedule: "CRON_TZ=0"}, "has not just five fields"},
		{lifetime.Texts{Schedule: "TZ=UTC TZ=0"}, "has not just five fields"},
		{lifetime.Texts{Schedule: strings.Repeat("1,", 200) + "1 3 * * *"}, "has 409 bytes, and 256 are allowed"},
	} {
		d, err := lifetime.Parse(tt.texts)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !d.IsZero() {
			t.Errorf("%+v: %+v, %v, want %q", tt.texts, d, err, tt.want)
		}
		wrong, ok := errors.AsType[*lifetime.Error](err)
		if said := map[string]string{"ttl": tt.texts.TTL, "every": tt.texts.Every, "schedule": tt.texts.Schedule, "grace": tt.texts.Grace}; !ok || said[wrong.Setting] == "" {
			t.Errorf("%+v: what is wrong is %+v", tt.texts, wrong)
		}
	}
}

// TestRestore: what another machine has read is kept here as well, whatever zones this one knows.
func TestRestore(t *testing.T) {
	for _, texts := range []lifetime.Texts{{}, {TTL: "3d", Every: "1d", Grace: "none"}, {Schedule: "15 3 * * *"}, {Schedule: "TZ=Far/Away 15 3 * * *", TTL: "1h"}} {
		d, err := lifetime.Restore(texts)
		if err != nil || d.Texts() != texts {
			t.Errorf("Restore(%+v) = %+v, %v", texts, d.Texts(), err)
		}
		terms := (&lifetime.Regime{}).TermsOf(key(t, "j"), d)
		if dates := terms.DatesOf(1); dates.Expires < 1 {
			t.Errorf("%+v: %+v", texts, dates)
		}
	}
	for _, texts := range []lifetime.Texts{{TTL: "x"}, {Every: "1d", Schedule: "15 3 * * *"}, {Schedule: strings.Repeat("*", 257)}} {
		if d, err := lifetime.Restore(texts); err == nil || !d.IsZero() {
			t.Errorf("Restore(%+v) = %+v", texts, d)
		}
	}
}

// TestAnd: each setting is kept by itself (L1).
func TestAnd(t *testing.T) {
	type texts = lifetime.Texts
	for _, tt := range []struct{ had, more, want texts }{
		{texts{}, texts{}, texts{}},
		{texts{TTL: "1h", Every: "1d", Grace: "5m"}, texts{}, texts{TTL: "1h", Every: "1d", Grace: "5m"}},
		{texts{TTL: "1h", Grace: "5m"}, texts{TTL: "2h"}, texts{TTL: "2h", Grace: "5m"}},
		{texts{TTL: "1h", Every: "1d", Grace: "5m"}, texts{TTL: "0", Every: "0", Grace: "0"}, texts{}},
		{texts{TTL: "1h", Every: "1d"}, texts{TTL: "none", Every: "none"}, texts{TTL: "none", Every: "none"}},
		{texts{TTL: "none"}, texts{TTL: "0"}, texts{}},
		{texts{Every: "1d"}, texts{Schedule: "15 3 * * *"}, texts{Schedule: "15 3 * * *"}},
		{texts{Schedule: "15 3 * * *"}, texts{Every: "1d"}, texts{Every: "1d"}},
		{texts{Schedule: "15 3 * * *"}, texts{Schedule: "0"}, texts{}},
		{texts{Schedule: "15 3 * * *"}, texts{Schedule: "none"}, texts{Every: "none"}},
		{texts{Schedule: "15 3 * * *"}, texts{TTL: "1h"}, texts{TTL: "1h", Schedule: "15 3 * * *"}},
	} {
		if got := declare(t, tt.had).And(declare(t, tt.more)).Texts(); got != tt.want {
			t.Errorf("%+v and %+v is %+v, want %+v", tt.had, tt.more, got, tt.want)
		}
	}
}

// declarations returns all combinations of what can be said of each setting.
func declarations(t *testing.T) (all []lifetime.Declaration) {
	t.Helper()
	expectations := []lifetime.Texts{{}, {Every: "0"}, {Every: "none"}, {Every: "1d"}, {Every: "2d"}, {Schedule: "15 3 * * *"}, {Schedule: "0 4 * * *"}}
	for _, ttl := range []string{"", "0", "none", "1h", "2h"} {
		for _, grace := range []string{"", "0", "5m"} {
			for _, texts := range expectations {
				texts.TTL, texts.Grace = ttl, grace
				all = append(all, declare(t, texts))
			}
		}
	}
	return all
}

// TestThen: a group that hears of two pushes at once has what it had of them one after the other, also if it heard of the first before.
func TestThen(t *testing.T) {
	all := declarations(t)
	for _, a := range all {
		for _, b := range all {
			both := a.Then(b)
			for _, said := range all {
				group := lifetime.Declaration{}.And(said)
				want := group.And(a).And(b)
				if got, again := group.And(both), group.And(a).And(both); got != want || again != want {
					t.Fatalf("%+v, then %+v: %+v and again %+v, want %+v", a.Texts(), b.Texts(), got.Texts(), again.Texts(), want.Texts())
				}
			}
		}
	}
}

// TestRetraction: it takes back what was said, and nothing else.
func TestRetraction(t *testing.T) {
	all := declarations(t)
	for _, a := range all {
		if got := (lifetime.Declaration{}).And(a).And(a.Retraction()); !got.IsZero() || a.IsZero() != a.Retraction().IsZero() {
			t.Errorf("what is left of %+v is %+v", a.Texts(), got.Texts())
		}
	}
	for _, texts := range []lifetime.Texts{{TTL: "1h"}, {Every: "1h"}, {Grace: "1h"}} {
		if got := declare(t, lifetime.Texts{}).Then(declare(t, texts).Retraction()).Retraction(); got != declare(t, texts).Retraction() {
			t.Errorf("%+v is taken back by %+v", texts, got.Texts())
		}
	}
}

type matcher string

func (m matcher) String() string { return string(m) }

func (m matcher) Matches(key grouping.Key) bool {
	job, _ := key.Get("job")
	return job == string(m) || m == "*"
}

// TestTermsOf: for each setting the first that says something wins: the push, then the rules in their order (L2).
func TestTermsOf(t *testing.T) {
	rule := func(job string, texts lifetime.Texts, whileAgent time.Duration) lifetime.Rule {
		return lifetime.Rule{Match: matcher(job), Declaration: declare(t, texts), WhileAgent: lifetime.Period(whileAgent)}
	}
	regime := &lifetime.Regime{Rules: []lifetime.Rule{
		rule("a", lifetime.Texts{TTL: "1h"}, 0),
		rule("b", lifetime.Texts{Every: "1d", Grace: "10m"}, 0),
		rule("*", lifetime.Texts{TTL: "7d", Schedule: "15 3 * * *", Grace: "30m"}, time.Minute),
		rule("never", lifetime.Texts{TTL: "1s"}, time.Hour),
	}}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		job        string
		declared   lifetime.Texts
		want       lifetime.Terms
		scheduled  bool
		declaredBy string
	}{
		{"a", lifetime.Texts{}, lifetime.Terms{TTL: time.Hour, Grace: 30 * time.Minute, WhileAgent: time.Minute}, true, "rule 1"},
		{"b", lifetime.Texts{}, lifetime.Terms{TTL: 7 * day, Every: day, Grace: 10 * time.Minute, WhileAgent: time.Minute}, false, "rule 2"},
		{"c", lifetime.Texts{}, lifetime.Terms{TTL: 7 * day, Grace: 30 * time.Minute, WhileAgent: time.Minute}, true, "rule 3"},
		{"c", lifetime.Texts{Every: "1m"}, lifetime.Terms{TTL: 7 * day, Every: time.Minute, Grace: 30 * time.Minute, WhileAgent: time.Minute}, false, "push, rule 3"},
		{"c", lifetime.Texts{TTL: "none", Every: "none", Grace: "none"}, lifetime.Terms{WhileAgent: time.Minute}, false, "push, rule 3"},
		{"a", lifetime.Texts{TTL: "2h"}, lifetime.Terms{TTL: 2 * time.Hour, Grace: 30 * time.Minute, WhileAgent: time.Minute}, true, "push, rule 3"},
	} {
		got := regime.TermsOf(key(t, tt.job), declare(t, tt.declared))
		scheduled := got.Schedule != nil
		declaredBy := got.DeclaredBy()
		if scheduled != tt.scheduled || declaredBy != tt.declaredBy || got.IsExpecting() != (scheduled || tt.want.Every > 0) {
			t.Errorf("%s with %+v: a schedule: %v, declared by %q", tt.job, tt.declared, scheduled, declaredBy)
		}
		settings := [...]time.Duration{got.TTL, got.Every, got.Grace, got.WhileAgent}
		if diff := cmp.Diff([...]time.Duration{tt.want.TTL, tt.want.Every, tt.want.Grace, tt.want.WhileAgent}, settings); diff != "" {
			t.Errorf("%s with %+v (-want +got):\n%s", tt.job, tt.declared, diff)
		}
	}
	var none lifetime.Regime
	if terms := none.TermsOf(key(t, "a"), lifetime.Declaration{}); !terms.IsZero() || terms.DeclaredBy() != "" {
		t.Errorf("without anything: %+v", terms)
	}
}

func key(t *testing.T, job string) grouping.Key {
	t.Helper()
	k, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestDates: dates count from the push, schedules in their zone and over the changes of its clocks.
func TestDates(t *testing.T) {
	at := func(text string) time.Time {
		t.Helper()
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	for _, tt := range []struct {
		texts                 lifetime.Texts
		pushed, late, expires string
	}{
		{lifetime.Texts{}, "2026-11-30T12:00:00Z", "", ""},
		{lifetime.Texts{TTL: "1h"}, "2026-11-30T12:00:00Z", "", "2026-11-30T13:00:00Z"},
		{lifetime.Texts{Every: "1d"}, "2026-11-30T12:00:00Z", "2026-12-01T12:00:00Z", ""},
		{lifetime.Texts{Every: "1d", Grace: "30m", TTL: "2d"}, "2026-11-30T12:00:00Z", "2026-12-01T12:30:00Z", "2026-12-02T12:00:00Z"},
		{lifetime.Texts{Grace: "30m"}, "2026-11-30T12:00:00Z", "", ""},
		{lifetime.Texts{Schedule: "15 3 * * *", Grace: "1h"}, "2026-11-30T03:15:00Z", "2026-12-01T04:15:00Z", ""},
		{lifetime.Texts{Schedule: "15 3 * * *"}, "2026-11-30T03:14:30Z", "2026-12-01T03:15:00Z", ""}, // it is that of 03:15
		{lifetime.Texts{Schedule: "15 3 * * *"}, "2026-11-30T03:14:29Z", "2026-11-30T03:15:00Z", ""},
		{lifetime.Texts{Schedule: "* * * * *"}, "2026-11-30T03:14:01Z", "2026-11-30T03:15:00Z", ""},
		{lifetime.Texts{Schedule: "0 0 * * 7"}, "2026-11-30T03:14:00Z", "2026-12-06T00:00:00Z", ""},   // a Sunday
		{lifetime.Texts{Schedule: "0 0 * * 5-7"}, "2026-12-05T03:14:00Z", "2026-12-06T00:00:00Z", ""}, // Friday to Sunday
		{lifetime.Texts{Schedule: "0 0 * * 5-7"}, "2026-12-06T03:14:00Z", "2026-12-11T00:00:00Z", ""},
		{lifetime.Texts{Schedule: "0 0 * * 1,7"}, "2026-12-05T03:14:00Z", "2026-12-06T00:00:00Z", ""},
		{lifetime.Texts{Schedule: "TZ=Europe/Berlin 30 2 * * *"}, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z", ""}, // comes twice that night
		{lifetime.Texts{Schedule: "TZ=Europe/Berlin 30 2 * * *"}, "2026-10-25T00:31:00Z", "2026-10-26T01:30:00Z", ""}, // and counts once
		{lifetime.Texts{Schedule: "TZ=Europe/Berlin 30 * * * *"}, "2026-10-25T00:31:00Z", "2026-10-25T02:30:00Z", ""},
		{lifetime.Texts{Schedule: "TZ=Europe/Berlin 15 3 * * *"}, "2026-11-30T12:00:00Z", "2026-12-01T02:15:00Z", ""},
		{lifetime.Texts{Schedule: "TZ=Europe/Berlin 15 3 * * *"}, "2026-03-28T12:00:00Z", "2026-03-29T01:15:00Z", ""}, // the clocks go on at 2
		{lifetime.Texts{Schedule: "TZ=Europe/Berlin 15 3 * * *"}, "2026-10-24T12:00:00Z", "2026-10-25T02:15:00Z", ""}, // and back at 3
		{lifetime.Texts{Schedule: "0 0 29 2 *"}, "2026-11-30T12:00:00Z", "2028-02-29T00:00:00Z", ""},
	} {
		regime := &lifetime.Regime{}
		terms := regime.TermsOf(key(t, "j"), declare(t, tt.texts))
		got := terms.DatesOf(at(tt.pushed).UnixNano())
		for name, pair := range map[string]struct {
			got  int64
			want string
		}{"late": {got.Late, tt.late}, "expires": {got.Expires, tt.expires}} {
			switch {
			case pair.want == "" && pair.got != lifetime.Never, pair.want != "" && pair.got != at(pair.want).UnixNano():
				t.Errorf("%+v, pushed %s: %s is %s, want %q", tt.texts, tt.pushed, name, time.Unix(0, pair.got).UTC(), pair.want)
			}
		}
	}
	far := declare(t, lifetime.Texts{TTL: "100y", Every: "100y", Grace: "100y"})
	terms := (&lifetime.Regime{}).TermsOf(key(t, "j"), far)
	if got := terms.DatesOf(lifetime.Never - 1); got.Late != lifetime.Never || got.Expires != lifetime.Never {
		t.Errorf("dates that cannot be counted: %+v", got)
	}
}

// FuzzParse: whatever somebody declares is refused, or written again as the same, and has dates.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "0", "none", "1h", "15 3 * * *", "TZ=Europe/Berlin 15 3 * * *", "TZ=0", "CRON_TZ=UTC * * * * *", "@every 1h", "*/0 * * * *", "0 0 30 2 *", "1-5/2,7 * ? JAN-MAR SUN"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, period, schedule string) {
		for _, texts := range []lifetime.Texts{{TTL: period, Grace: period, Schedule: schedule}, {Every: period}} {
			d, err := lifetime.Parse(texts)
			if err != nil {
				continue
			}
			if again, err := lifetime.Parse(d.Texts()); err != nil || again != d {
				t.Errorf("%+v is read as %+v and then %+v, %v", texts, d, again, err)
			}
			pushed := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC).UnixNano()
			terms := (&lifetime.Regime{}).TermsOf(key(t, "j"), d)
			if dates := terms.DatesOf(pushed); dates.Late <= pushed || dates.Expires <= pushed {
				t.Errorf("%+v: dates %+v are not after the push", texts, dates)
			}
		}
	})
}
