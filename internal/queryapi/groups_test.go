package queryapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/queryapi"
	"pushrelay/internal/relayapi"
)

func newGroups(store queryapi.GroupStore) *queryapi.Groups {
	return queryapi.NewGroups(queryapi.GroupsConfig{Store: store, AgentLabel: "agent", Timeout: 10 * time.Second})
}

// askGroups asks with a query as people write it: name=value, separated by blanks.
func askGroups[T any](t testing.TB, h http.HandlerFunc, method, query string) (status int, a relayapi.Answer[T]) {
	t.Helper()
	v := url.Values{}
	for pair := range strings.FieldsSeq(query) {
		name, value, _ := strings.Cut(pair, "=")
		v.Add(name, value)
	}
	w := httptest.NewRecorder()
	h(w, httptest.NewRequestWithContext(t.Context(), method, relayapi.GroupsPath+"?"+v.Encode(), nil))
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") == "" {
		t.Fatalf("%s %s: %v, header %v\n%s", method, query, err, w.Header(), w.Body)
	}
	return w.Code, a
}

func jobsOf(groups []relayapi.Group) (jobs []string) {
	for _, g := range groups {
		jobs = append(jobs, g.Labels["job"])
	}
	return jobs
}

// someGroups has groups of two teams and of an agent; c failed after it was pushed, d is in quarantine, e is older.
func someGroups(t testing.TB) *groupstore.Store {
	t.Helper()
	store := storeOf(t, groupstore.Config{Check: groupstore.CheckQuarantine},
		push{key: "job a team x", body: "# TYPE m counter\nm 1\n"}, push{key: "job b team y agent site-a", body: "n 1\nn{l=\"2\"} 2\n"},
		push{key: "job c team x", body: "o 1\n"}, push{key: "job d team x", body: "# TYPE m gauge\nm 1\n"}, push{key: "job e", at: arrival.Add(-time.Hour)})
	failed := &change.Change{Operation: change.Fail, Key: key(t, "job c team x"), At: arrival.Add(time.Second)}
	if o, _ := store.Apply(t.Context(), failed, groupstore.Content{Fault: "line 1: odd"}); !o.IsTaken() {
		t.Fatal(o)
	}
	return store
}

func TestListGroups(t *testing.T) {
	groups := newGroups(someGroups(t))
	for query, want := range map[string]string{
		`match[]={team="x"}`:                                          "a c d",
		`match[]={team="x"} match[]={job="b"}`:                        "b a c d", // the agent comes first in the key
		`match[]={job=~".+"} state=failed`:                            "c",
		`match[]={job=~".+"} state=quarantined`:                       "d",
		`match[]={job=~".+"} pushed_before=2026-11-22T07:00:00Z`:      "e",
		`match[]={job=~".+"} pushed_before=2026-11-22T08:00:00+01:00`: "e",
		`match[]={job=~".+"} pushed_before=1795332780.0`:              "e",
		`match[]={team="x"} pushed_before=2026-11-22T07:00:00Z`:       "",
		`match[]={job="none"}`:                                        "",
		`match[]={team!="x"}`:                                         "b e",
		`match[]={team="x"} limit=2`:                                  "a c",
	} {
		status, a := askGroups[relayapi.Page](t, groups.List, http.MethodGet, query)
		if got := strings.Join(jobsOf(a.Data.Groups), " "); status != http.StatusOK || a.Status != "success" || got != want {
			t.Errorf("%s: %d, groups %q, want %q", query, status, got, want)
		}
	}
	_, a := askGroups[relayapi.Page](t, groups.List, http.MethodGet, `match[]={job=~"b|c"}`)
	at, failed := arrival, arrival.Add(time.Second)
	want := &relayapi.Page{Selected: 2, Groups: []relayapi.Group{
		{Labels: map[string]string{"job": "b", "team": "y", "agent": "site-a"}, Agent: "site-a", PushTime: &at, State: "ok", States: []string{}, Series: 2},
		{Labels: map[string]string{"job": "c", "team": "x"}, PushTime: &at, FailureTime: &failed, Reason: "line 1: odd", State: "failed", States: []string{"failed"}, Series: 1},
	}}
	if diff := cmp.Diff(want, a.Data); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}

// TestPagesOfGroups: pages have each group that stays once, whatever comes and goes between them.
func TestPagesOfGroups(t *testing.T) {
	store := groupstore.New(groupstore.Config{})
	for i := range 25 {
		put(t, store, fmt.Sprintf("job j%02d", i), &exposition.Body{}, arrival)
	}
	groups := newGroups(store)
	var seen []string
	query := `match[]={job=~"j.*"} limit=10`
	for pages := 1; ; pages++ {
		_, a := askGroups[relayapi.Page](t, groups.List, http.MethodGet, query)
		seen = append(seen, jobsOf(a.Data.Groups)...)
		if a.Data.Next == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		query = `match[]={job=~"j.*"} limit=10 after=` + a.Data.Next
		gone := &change.Change{Operation: change.Delete, Key: key(t, "job "+seen[len(seen)-1]), At: arrival}
		if o, _ := store.Apply(t.Context(), gone, groupstore.Content{}); !o.IsTaken() {
			t.Fatal(o)
		}
		put(t, store, "job j00", &exposition.Body{}, arrival) // before what comes
	}
	if len(seen) != 25 || !slices.IsSorted(seen) || len(slices.Compact(seen)) != 25 {
		t.Errorf("seen: %q", seen)
	}
}

func TestRefusedQueriesOfGroups(t *testing.T) {
	const all = `match[]={job=~".+"}`
	groups := newGroups(someGroups(t))
	for _, tt := range []struct{ method, query, want string }{
		{"GET", ``, `match[]: there is no selector, want one such as {job="backup"}`},
		{"GET", `state=failed`, "match[]: there is no selector"},
		{"GET", `match[]={job=}`, `match[]: selector "{job=}" cannot be read`},
		{"GET", `match={job="a"}`, `parameter "match" is not one of match[], pushed_before, state, limit, after`},
		{"GET", all + ` pushed_befor=1`, `parameter "pushed_befor" is not one of`},
		{"GET", all + ` dry_run=true`, `parameter "dry_run" is not one of`},
		{"GET", all + ` state=odd`, `state is "odd", want one of expired, failed, late, quarantined`},
		{"GET", all + ` state=failed state=quarantined`, "parameter state is there 2 times, want it once"},
		{"GET", all + ` pushed_before=yesterday`, `pushed_before is "yesterday", want a time such as`},
		{"GET", all + ` pushed_before=NaN`, `pushed_before is "NaN", want`},
		{"GET", all + ` pushed_before=-1`, `pushed_before is "-1", want`},
		{"GET", all + ` limit=0`, `limit is "0", want a number from 1 to 10000`},
		{"GET", all + ` limit=10001`, `limit is "10001", want a number from 1 to 10000`},
		{"GET", all + ` after=%`, `after is "%", want what the page before has as "next"`},
		{"GET", all + ` after=`, `after is "", want`},
		{"GET", all + ` after=YWJj`, `after is "YWJj", want`},
		{"DELETE", ``, "match[]: there is no selector"},
		{"DELETE", `match[]={taem!="x"}`, `match[]: selector {taem!="x"} also matches groups that have none of its labels`},
		{"DELETE", `match[]={job="a"} dry_run=perhaps`, `dry_run is "perhaps", want true or false`},
		{"DELETE", `match[]={job="a"} limit=1`, `parameter "limit" is not one of match[], pushed_before, state, dry_run`},
		{"DELETE", `match[]={job="a"} dryrun=true`, `parameter "dryrun" is not one of`},
	} {
		handler := groups.List
		if tt.method == http.MethodDelete {
			handler = groups.Delete
		}
		status, a := askGroups[relayapi.Page](t, handler, tt.method, tt.query)
		if status != http.StatusBadRequest || a.Status != "error" || a.ErrorType != "bad_data" || !strings.HasPrefix(a.Error, tt.want) {
			t.Errorf("%s %s: %d %+v, want 400 and %q", tt.method, tt.query, status, a, tt.want)
		}
	}
}

func TestDeleteGroups(t *testing.T) {
	store := someGroups(t)
	groups := newGroups(store)
	want := &relayapi.Deletion{DryRun: true, Selected: 2, Deleted: 2, OfAgents: 1, Groups: []map[string]string{
		{"job": "b", "team": "y", "agent": "site-a"}, {"job": "a", "team": "x"},
	}}
	for _, dry := range []bool{true, false} {
		status, a := askGroups[relayapi.Deletion](t, groups.Delete, http.MethodDelete, fmt.Sprintf(`match[]={job=~"a|b"} dry_run=%v`, dry))
		if !strings.Contains(a.Data.Note, "come back with the next push of the agent") {
			t.Errorf("note %q", a.Data.Note)
		}
		want.DryRun, want.Note = dry, a.Data.Note
		if diff := cmp.Diff(want, a.Data); status != http.StatusOK || diff != "" {
			t.Errorf("%d (-want +got):\n%s", status, diff)
		}
		left := map[bool]int{true: 5, false: 3}[dry]
		if store.Snapshot().Len() != left {
			t.Errorf("dry run %v leaves %d groups, want %d", dry, store.Snapshot().Len(), left)
		}
	}
	if _, a := askGroups[relayapi.Deletion](t, groups.Delete, http.MethodDelete, `match[]={job="a"}`); a.Data == nil || a.Data.Deleted != 0 || a.Data.DryRun {
		t.Errorf("deleting again: %+v", a)
	}
}

// A meddler changes groups between their selection and their deletion, or lets deletions fail.
type meddler struct {
	*groupstore.Store

	between func()
	fail    func(n int) bool

	mu sync.Mutex
	n  int // deletions so far
}

func (m *meddler) Select(ctx context.Context, keep func(groupstore.Group) bool) (*groupstore.View, error) {
	view, err := m.Store.Select(ctx, keep)
	if m.between != nil {
		m.between()
	}
	return view, err
}

func (m *meddler) ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome {
	m.mu.Lock()
	m.n++
	n := m.n
	m.mu.Unlock()
	if m.fail != nil && m.fail(n) {
		return *change.Refuse(change.NotWritable, "the disk is full")
	}
	return m.Store.ApplyBodiless(ctx, c)
}

// TestDeleteUnlessChanged: a push, and a deletion with another push, that come in the same moment win.
func TestDeleteUnlessChanged(t *testing.T) {
	m := &meddler{Store: someGroups(t)}
	m.between = func() {
		put(t, m.Store, "job a team x", &exposition.Body{}, arrival)
		gone := &change.Change{Operation: change.Delete, Key: key(t, "job e"), At: arrival}
		if o, _ := m.Apply(t.Context(), gone, groupstore.Content{}); !o.IsTaken() {
			t.Fatal(o)
		}
	}
	_, a := askGroups[relayapi.Deletion](t, newGroups(m).Delete, http.MethodDelete, `match[]={job=~"a|c|e"}`)
	if a.Data.Selected != 3 || a.Data.Deleted != 1 || a.Data.Changed != 2 || len(a.Data.Groups) != 1 || a.Data.Groups[0]["job"] != "c" {
		t.Errorf("%+v", a.Data)
	}
	if n := m.Store.Snapshot().Len(); n != 3 {
		t.Errorf("%d groups are left, want 3", n)
	}
}

// TestDeleteSeen: what was seen is deleted, and nothing that came since, be it to a group that was seen.
func TestDeleteSeen(t *testing.T) {
	store := someGroups(t)
	seen := map[string]uint64{}
	for g := range store.Snapshot().Groups() {
		if job := g.Key().Job(); job == "a" || job == "b" || job == "c" {
			seen[g.Key().Canonical()] = g.Version()
		}
	}
	put(t, store, "job a team x", &exposition.Body{}, arrival)
	put(t, store, "job f", &exposition.Body{}, arrival)
	done, err := newGroups(store).DeleteSeen(t.Context(), seen)
	if err != nil || done.Selected != 2 || done.Deleted != 2 || done.OfAgents != 1 {
		t.Errorf("%+v, %v, want 2 deleted", done, err)
	}
	var left []string
	for g := range store.Snapshot().Groups() {
		left = append(left, g.Key().Job())
	}
	if diff := cmp.Diff([]string{"a", "d", "e", "f"}, left); diff != "" {
		t.Errorf("groups that are left (-want +got):\n%s", diff)
	}
}

// TestDeleteStops: once the store refuses, no further group is tried, and the answer says how many were deleted.
func TestDeleteStops(t *testing.T) {
	m := &meddler{Store: groupstore.New(groupstore.Config{}), fail: func(n int) bool { return n > 200 }}
	for i := range 1000 {
		put(t, m.Store, fmt.Sprintf("job j%03d", i), &exposition.Body{}, arrival)
	}
	status, a := askGroups[relayapi.Deletion](t, newGroups(m).Delete, http.MethodDelete, `match[]={job=~".+"}`)
	if status != http.StatusServiceUnavailable || a.ErrorType != "unavailable" || !strings.HasPrefix(a.Error, "200 of 1000 groups were deleted, and then no more: the disk is full") {
		t.Errorf("%d %+v", status, a)
	}
	if a.Data == nil || a.Data.Deleted != 200 || len(a.Data.Groups) != 100 || a.Data.Omitted != 100 || m.Store.Snapshot().Len() != 800 {
		t.Errorf("%+v, %d groups are left", a.Data, m.Store.Snapshot().Len())
	}
	if m.n > 400 {
		t.Errorf("%d deletions were tried", m.n)
	}
}

// TestDeleteForHalfClosedConnections: a request whose sending half was closed is answered as any other, and no two deletions are under way.
func TestDeleteForHalfClosedConnections(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	ask := func(h http.HandlerFunc) int {
		w := httptest.NewRecorder()
		h(w, httptest.NewRequestWithContext(ended, http.MethodDelete, relayapi.GroupsPath+"?match[]=%7Bjob=%22a%22%7D", nil))
		return w.Code
	}
	for range 20 {
		if got := ask(newGroups(someGroups(t)).Delete); got != http.StatusOK {
			t.Fatalf("DELETE = %d, want 200", got)
		}
	}
	m := &meddler{Store: someGroups(t)}
	groups := newGroups(m)
	m.between = func() {
		if got := ask(groups.Delete); got != http.StatusServiceUnavailable {
			t.Errorf("DELETE during another = %d, want 503", got)
		}
	}
	if got := ask(groups.Delete); got != http.StatusOK {
		t.Errorf("DELETE = %d, want 200", got)
	}
}

// FuzzGroupsQuery: a query is answered with no more groups than it asks for, and all of them such as it asks for, or 400 with a reason; and asking to
// delete never deletes what listing with the same query would not show.
func FuzzGroupsQuery(f *testing.F) {
	for _, query := range []string{
		"match[]={job=\"a\"}", "match[]=%7Bteam!%3D%22x%22%7D&limit=1", "match[]={job=~\".%2B\"}&state=failed&after=am9i_2E", "match[]={job=~\".%2B\"}&pushed_before=1e9", "dry_run=1&match[]={job=\"a\"}", "limit=%zz", "a;b",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		store := someGroups(t)
		groups := newGroups(store)
		ask := func(method string, h http.HandlerFunc, answer any) int {
			r := httptest.NewRequestWithContext(t.Context(), method, relayapi.GroupsPath, nil)
			r.URL.RawQuery = query
			w := httptest.NewRecorder()
			h(w, r)
			if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
				t.Fatalf("%s %q: %v\n%s", method, query, err, w.Body)
			}
			return w.Code
		}
		var page relayapi.Answer[relayapi.Page]
		listed := ask(http.MethodGet, groups.List, &page)
		if listed != http.StatusOK && (listed != http.StatusBadRequest || page.Error == "") {
			t.Errorf("GET %q: %d %+v", query, listed, page)
		}
		var gone relayapi.Answer[relayapi.Deletion]
		deleted := ask(http.MethodDelete, groups.Delete, &gone)
		switch {
		case deleted == http.StatusBadRequest && gone.Error != "":
			if n := store.Snapshot().Len(); n != 5 {
				t.Errorf("DELETE %q is refused and leaves %d groups", query, n)
			}
		case deleted != http.StatusOK:
			t.Errorf("DELETE %q: %d %+v", query, deleted, gone)
		case listed == http.StatusOK && page.Data.Selected != gone.Data.Deleted:
			t.Errorf("%q lists %d groups and deletes %d", query, page.Data.Selected, gone.Data.Deleted)
		case !gone.Data.DryRun && store.Snapshot().Len() != 5-gone.Data.Deleted:
			t.Errorf("DELETE %q says %d and leaves %d", query, gone.Data.Deleted, store.Snapshot().Len())
		}
	})
}

// TestDeleteBesidePushes deletes and pushes at once: what is pushed last is there in the end.
func TestDeleteBesidePushes(t *testing.T) {
	store := groupstore.New(groupstore.Config{})
	groups := newGroups(store)
	pushAll := func() {
		for i := range 500 {
			put(t, store, fmt.Sprintf("job j%03d", i), &exposition.Body{}, arrival)
		}
	}
	pushAll()
	var pushers sync.WaitGroup
	pushers.Go(pushAll)
	for range 5 {
		if status, a := askGroups[relayapi.Deletion](t, groups.Delete, http.MethodDelete, `match[]={job=~"j.*"}`); status != http.StatusOK || a.Data.Deleted+a.Data.Changed != a.Data.Selected {
			t.Errorf("%d %+v", status, a)
		}
	}
	pushers.Wait()
	pushAll()
	if n := store.Snapshot().Len(); n != 500 {
		t.Errorf("%d groups, want 500", n)
	}
}

// TestGroupsWithLives: what is declared of a group's life, and what has become of it, in both answers about groups.
func TestGroupsWithLives(t *testing.T) {
	now := arrival
	store := groupstore.New(groupstore.Config{Now: func() time.Time { return now }})
	life, err := lifetime.Parse(lifetime.Texts{TTL: "2h", Every: "1h", Grace: "1m"})
	if err != nil {
		t.Fatal(err)
	}
	var parser exposition.Parser
	body, err := parser.ParseText([]byte("state 1\ndue 2\n"), exposition.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &change.Change{Operation: change.Replace, Key: key(t, "job living"), At: arrival, Life: life, Failed: "exit status 2"}
	if o, _ := store.Apply(t.Context(), c, groupstore.Content{Body: body}); !o.IsTaken() {
		t.Fatal(o)
	}
	c = &change.Change{Operation: change.Replace, Key: key(t, "job plain"), At: arrival}
	if o, _ := store.Apply(t.Context(), c, groupstore.Content{Body: body}); !o.IsTaken() {
		t.Fatal(o)
	}
	lister := newGroups(store)
	late, expires := arrival.Add(61*time.Minute).UTC(), arrival.Add(2*time.Hour).UTC()
	for after, want := range map[time.Duration]struct {
		state  string
		states []string
	}{
		0:                {"failed", []string{"failed"}},
		61 * time.Minute: {"failed", []string{"failed", "late"}},
		2 * time.Hour:    {"expired", []string{"expired", "failed", "late"}},
	} {
		now = arrival.Add(after)
		_, a := askGroups[relayapi.Page](t, lister.List, http.MethodGet, `match[]={job="living"}`)
		g := a.Data.Groups[0]
		if g.State != want.state || !slices.Equal(g.States, want.states) || !g.Due.Equal(late) || !g.Expires.Equal(expires) || g.DeclaredBy != "push" || g.JobFailure != "exit status 2" {
			t.Errorf("after %v: %+v", after, g)
		}
		for _, state := range []string{"expired", "failed", "late"} {
			_, a := askGroups[relayapi.Page](t, lister.List, http.MethodGet, `match[]={job=~".+"} state=`+state)
			if got := len(a.Data.Groups) == 1; got != slices.Contains(want.states, state) {
				t.Errorf("after %v: in state %s: %v", after, state, got)
			}
		}
		all := groups(t, store)
		living, plain := all[0].(map[string]any), all[1].(map[string]any)
		if living["state"] != want.state || living["due"] != late.Format(time.RFC3339Nano) || living["expires"] != expires.Format(time.RFC3339Nano) || living["declared_by"] != "push" || living["job_failure"] != "exit status 2" {
			t.Errorf("after %v: %v", after, living)
		}
		if _, pushed := living["relay_state"]; pushed != (after < 2*time.Hour) {
			t.Errorf("after %v: what was pushed as state is there: %v", after, pushed)
		}
		for _, name := range []string{"push_up", "push_due_timestamp_seconds", "push_expiry_timestamp_seconds"} {
			if _, has := living[name].(map[string]any); !has {
				t.Errorf("after %v: no %s", after, name)
			}
		}
		if _, family := plain["state"].(map[string]any); !family || plain["declared_by"] != nil || plain["push_up"] != nil {
			t.Errorf("a group of whose life nothing is declared: %v", plain)
		}
	}
}
