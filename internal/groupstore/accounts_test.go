package groupstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// TestAccounts: what the groups of one account hold is bounded; what makes it no larger is taken, also beyond the bound, and others are not
// concerned.
func TestAccounts(t *testing.T) {
	unbounded := newTester(t, groupstore.Config{AccountLabel: "agent"})
	for i := range 5 {
		unbounded.put(key(t, "job", fmt.Sprint(i), "agent", "site"), "m 1\nn 1\n")
	}
	cfg := groupstore.Config{AccountLabel: "agent", MaxAccountGroups: 3, MaxAccountSeries: 8}
	s := load(t, cfg, cut(t, unbounded.store)) // as after an upgrade
	wantAccount := func(what string, groups, series int) {
		t.Helper()
		if g, n := s.store.Account("site"); g != groups || n != series {
			t.Errorf("%s: the account has %d groups and %d series, want %d and %d", what, g, n, groups, series)
		}
	}
	wantAccount("after an upgrade", 5, 10)
	for _, st := range []struct {
		op     change.Operation
		job    string
		agent  string
		text   string
		full   string // what there may be no more of
		groups int
		series int
	}{
		{put, "new", "site", "m 1\n", "3 groups of \"site\" (--agents.max-groups)", 5, 10},
		{put, "0", "site", "m 2\nn 2\n", "", 5, 10},
		{put, "0", "site", "m 2\nn 2\no 2\n", "8 series of \"site\" (--agents.max-series)", 5, 10},
		{post, "0", "site", "o 2\n", "8 series of \"site\" (--agents.max-series)", 5, 10},
		{post, "0", "site", "n 3\n", "", 5, 10},
		{put, "0", "site", "m 2\n", "", 5, 9},
		{change.Delete, "1", "site", "", "", 4, 7},
		{post, "0", "site", "o 2\n", "", 4, 8},
		{put, "0", "other", "m 1\nn 1\no 1\np 1\n", "", 4, 8},
		{put, "new", "", "m 1\nn 1\no 1\np 1\nq 1\nr 1\ns 1\nt 1\nu 1\nv 1\n", "", 4, 8},
		{change.Delete, "2", "site", "", "", 3, 6},
		{put, "new", "site", "m 1\n", "3 groups of \"site\" (--agents.max-groups)", 3, 6},
		{change.Delete, "3", "site", "", "", 2, 4},
		{put, "new", "site", "m 1\n", "", 3, 5},
	} {
		labels := []string{"job", st.job}
		if st.agent != "" {
			labels = append(labels, "agent", st.agent)
		}
		o, err := s.push(st.op, key(t, labels...), st.text)
		if full := errors.Is(err, change.Full); full != (st.full != "") || err != nil && !full || !strings.HasSuffix(o.Detail, st.full) || full && o.RetryAfter != 30*time.Second {
			t.Errorf("%+v = %+v", st, o)
		}
		wantAccount(fmt.Sprintf("%+v", st), st.groups, st.series)
	}
	again := load(t, cfg, cut(t, s.store))
	if g, n := again.store.Account("site"); g != 3 || n != 5 {
		t.Errorf("loaded, the account has %d groups and %d series", g, n)
	}
	if err := wipe(t.Context(), s.store); err != nil {
		t.Fatal(err)
	}
	wantAccount("after a wipe", 0, 0)
	s.put(key(t, "job", "a", "agent", "site"), "m 1\n")
	wantAccount("after that", 1, 1)
	s.delete(key(t, "job", "a", "agent", "site"))
	wantAccount("in the end", 0, 0)
}

// TestAccountLimits: each account has the limits that are its own at the moment, in the words of who set them.
func TestAccountLimits(t *testing.T) {
	more := 0
	s := newTester(t, groupstore.Config{AccountLabel: "agent", MaxAccountGroups: 1, AccountLimits: func(account string) groupstore.AccountLimits {
		if account == "free" {
			return groupstore.AccountLimits{}
		}
		return groupstore.AccountLimits{Groups: len(account) + more, Series: 3, GroupsBy: "groups by a rule", SeriesBy: "series by a rule"}
	}})
	for i, st := range []struct {
		agent, job, text, full string
		more                   int
	}{
		{agent: "ab", job: "1"},
		{agent: "ab", job: "2"},
		{agent: "ab", job: "3", full: "2 groups of \"ab\" (groups by a rule)"},
		{agent: "ab", job: "3", more: 1},
		{agent: "ab", job: "3", text: "n 1\n", more: 1, full: "3 series of \"ab\" (series by a rule)"},
		{agent: "ab", job: "1"},
		{agent: "free", job: "1", text: "n 1\no 1\np 1\n"},
		{agent: "free", job: "2"},
	} {
		more = st.more
		o, err := s.push(put, key(t, "job", st.job, "agent", st.agent), "m 1\n"+st.text)
		if full := errors.Is(err, change.Full); full != (st.full != "") || err != nil && !full || !strings.HasSuffix(o.Detail, st.full) {
			t.Errorf("%d: %+v = %+v", i, st, o)
		}
	}
}
