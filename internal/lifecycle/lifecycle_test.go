package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifecycle"
	"pushrelay/internal/lifetime"
)

// log refuses changes while it is full.
type log struct{ full atomic.Bool }

func (l *log) Append(uint64, groupstore.Effect) (func(context.Context) error, error) {
	if l.full.Load() {
		return nil, errors.New("no space left on device")
	}
	return nil, nil
}

// fixture is a store whose lives are kept, in fake time.
type fixture struct {
	t      *testing.T
	log    *log
	store  *groupstore.Store
	keeper *lifecycle.Keeper
	reg    *prometheus.Registry
	lines  bytes.Buffer
}

// inTime runs the test in a bubble of fake time, with a keeper that runs.
func inTime(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, log: &log{}, reg: prometheus.NewRegistry()}
		f.store = groupstore.New(groupstore.Config{Appender: f.log})
		f.keeper = lifecycle.New(lifecycle.Config{Store: f.store, ForgetAfter: 24 * time.Hour, Logger: slog.New(slog.NewTextHandler(&f.lines, nil)), Registerer: f.reg})
		f.keeper.SetRules(nil)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.keeper.Run(ctx) }()
		test(t, f)
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (f *fixture) push(job string, texts lifetime.Texts) {
	f.t.Helper()
	life, err := lifetime.Parse(texts)
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		f.t.Fatal(err)
	}
	if o, _ := f.store.Apply(f.t.Context(), &change.Change{Operation: change.Replace, Key: key, At: time.Now(), Life: life}, groupstore.Content{}); !o.IsTaken() {
		f.t.Fatal(o.Detail)
	}
}

// held says how many groups the store has, expired or not.
func (f *fixture) held(want int) {
	f.t.Helper()
	synctest.Wait()
	if n := f.store.Stats().Groups; n != want {
		f.t.Errorf("%v: the store holds %d groups, want %d", time.Now(), n, want)
	}
}

// TestRemoved: a group goes an hour after it was hidden, a stub when it is forgotten, and what was pushed to meanwhile stays.
func TestRemoved(t *testing.T) {
	inTime(t, func(t *testing.T, f *fixture) {
		for i := range 1000 {
			f.push(fmt.Sprint(i), lifetime.Texts{TTL: "1h"})
		}
		f.push("stub", lifetime.Texts{TTL: "1h", Every: "2h"})
		f.push("stays", lifetime.Texts{})
		time.Sleep(time.Hour + 30*time.Minute)
		f.push("0", lifetime.Texts{TTL: "1h"}) // anew
		if n := f.store.Snapshot().Len(); n != 3 {
			t.Errorf("%d groups are exposed", n)
		}
		f.held(1002)
		time.Sleep(29 * time.Minute)
		f.held(1002)
		time.Sleep(2 * time.Minute)
		f.held(3)
		time.Sleep(2 * time.Hour)
		f.held(2)
		time.Sleep(25 * time.Hour)
		f.held(1)
	})
}

// TestMistakeInARule: what a rule hides by mistake is warned of, and is all there again once it is taken back within an hour; the hour begins anew
// with other rules.
func TestMistakeInARule(t *testing.T) {
	inTime(t, func(t *testing.T, f *fixture) {
		for i := range 20 {
			f.push(fmt.Sprint(i), lifetime.Texts{})
		}
		time.Sleep(time.Hour)
		rules := []lifetime.Rule{{Match: all{}, Declaration: lifetime.Declaration{TTL: lifetime.Period(time.Minute)}}}
		f.keeper.SetRules(rules)
		if !strings.Contains(f.lines.String(), "expired=20 groups=20") {
			t.Errorf("no warning: %s", f.lines.String())
		}
		time.Sleep(50 * time.Minute)
		other := []lifetime.Rule{{Match: all{}, Declaration: lifetime.Declaration{TTL: lifetime.Period(2 * time.Minute)}}}
		f.keeper.SetRules(other)
		time.Sleep(50 * time.Minute)
		f.keeper.SetRules(slices.Clone(other)) // the same ones: the hour goes on
		f.held(20)
		f.keeper.SetRules(nil)
		time.Sleep(100 * time.Hour)
		f.held(20)
		if n := f.store.Snapshot().Len(); n != 20 {
			t.Errorf("%d groups are exposed", n)
		}
		f.keeper.SetRules(rules)
		time.Sleep(40 * time.Minute)
		f.keeper.SetRules(slices.Clone(rules))
		time.Sleep(22 * time.Minute)
		f.held(0)
		if err := testutil.GatherAndCompare(f.reg, strings.NewReader(`
# HELP relay_groups_expired_total Groups of which what had expired was removed, at least an hour after it was hidden.
# TYPE relay_groups_expired_total counter
relay_groups_expired_total 20
# HELP relay_mass_expiries_total Reloads of the push rules by which more than a tenth of all groups expired at once.
# TYPE relay_mass_expiries_total counter
relay_mass_expiries_total 2
`)); err != nil {
			t.Error(err)
		}
	})
}

// TestLogThatRefuses: what cannot be removed now is removed later.
func TestLogThatRefuses(t *testing.T) {
	inTime(t, func(t *testing.T, f *fixture) {
		for i := range 600 {
			f.push(fmt.Sprint(i), lifetime.Texts{TTL: "1h"})
		}
		f.log.full.Store(true)
		time.Sleep(3 * time.Hour)
		f.held(600)
		f.log.full.Store(false)
		time.Sleep(time.Minute)
		f.held(0)
	})
}

// all matches every group.
type all struct{}

func (all) Matches(grouping.Key) bool { return true }
func (all) String() string            { return "all" }

// TestOnlyOneRemoves: of several keepers of one store only that removes something which leads, and it sees for an hour first what has expired.
func TestOnlyOneRemoves(t *testing.T) {
	var leads atomic.Bool
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, log: &log{}, reg: prometheus.NewRegistry()}
		f.store = groupstore.New(groupstore.Config{Appender: f.log})
		f.keeper = lifecycle.New(lifecycle.Config{
			Store: f.store, ForgetAfter: 24 * time.Hour, Leads: leads.Load, Logger: slog.New(slog.NewTextHandler(&f.lines, nil)), Registerer: f.reg,
		})
		f.keeper.SetRules(nil)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.keeper.Run(ctx) }()
		f.push("short", lifetime.Texts{TTL: "1m"})
		time.Sleep(10 * time.Hour)
		f.held(1)
		leads.Store(true)
		time.Sleep(59 * time.Minute)
		f.held(1)
		time.Sleep(2 * time.Minute)
		f.held(0)
		f.push("another", lifetime.Texts{TTL: "1m"})
		time.Sleep(30 * time.Minute)
		leads.Store(false)
		time.Sleep(10 * time.Hour)
		leads.Store(true)
		time.Sleep(59 * time.Minute)
		f.held(1) // the hour began anew
		time.Sleep(2 * time.Minute)
		f.held(0)
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
