package push_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/push"
)

// TestLifeOfPushes: what the headers of a push say of its group's life, each for itself (L1), and of its job (L4). An operation without a body
// says nothing.
func TestLifeOfPushes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string
		header http.Header
		life   lifetime.Texts
		failed string
	}{
		{name: "nothing"},
		{name: "empty headers", header: http.Header{"Push-Ttl": {""}, "Push-Every": {" \t"}, "Push-Schedule": {""}, "Push-Failed": {" "}}},
		{
			name:   "periods",
			header: http.Header{"Push-Ttl": {" 72h "}, "Push-Every": {"24h"}, "Push-Grace": {"30m"}},
			life:   lifetime.Texts{TTL: "3d", Every: "1d", Grace: "30m"},
		},
		{name: "a schedule", header: http.Header{"Push-Schedule": {"TZ=Europe/Berlin 15 3 * * *"}}, life: lifetime.Texts{Schedule: "TZ=Europe/Berlin 15 3 * * *"}},
		{
			name:   "words",
			header: http.Header{"Push-Ttl": {"0"}, "Push-Schedule": {"none"}, "Push-Grace": {"none"}},
			life:   lifetime.Texts{TTL: "0", Every: "none", Grace: "none"},
		},
		{name: "twice the same", header: http.Header{"Push-Ttl": {"1h", " 1h"}, "Push-Failed": {"x", "x"}}, life: lifetime.Texts{TTL: "1h"}, failed: "x"},
		{name: "a failure", method: "POST", header: http.Header{"Push-Failed": {" exit status 2\t"}}, failed: "exit status 2"},
		{name: "a failure in many words", header: http.Header{"Push-Failed": {strings.Repeat("ü", 1<<10)}}, failed: strings.Repeat("ü", 510) + "…"},
		{name: "a failure that is no line", header: http.Header{"Push-Failed": {"a\tb\xff"}}, failed: "a b?"},
		{name: "a deletion", method: "DELETE", header: http.Header{"Push-Ttl": {"tomorrow"}, "Push-Failed": {"x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pusher{result: change.Outcome{Kind: change.Applied}}
			if tt.method == "" {
				tt.method = "PUT"
			}
			r := httptest.NewRequest(tt.method, "/metrics/job/j", strings.NewReader("m 1\n"))
			r.Header = tt.header
			w := httptest.NewRecorder()
			newHandler(p, exposition.Limits{}).ServeHTTP(w, r)
			if p.last == nil {
				t.Fatalf("nothing was pushed: %d %s", w.Code, w.Body)
			}
			if got := p.last.Life.Texts(); got != tt.life || p.last.Failed != tt.failed {
				t.Errorf("pushed with %+v and %q, want %+v and %q", got, p.last.Failed, tt.life, tt.failed)
			}
			again := http.Header{}
			push.SetLife(again, p.last.Life, p.last.Failed)
			p.last, r.Header = nil, again
			r.Body = http.NoBody
			newHandler(p, exposition.Limits{}).ServeHTTP(httptest.NewRecorder(), r)
			if p.last == nil || p.last.Life.Texts() != tt.life || p.last.Failed != tt.failed {
				t.Errorf("written as %v, which is read as %+v", again, p.last)
			}
		})
	}
}

// TestRefusedHeadersOfPushes: a push whose headers cannot be read is refused, with the name of the header, and nothing is stored.
func TestRefusedHeadersOfPushes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header http.Header
		says   string
	}{
		{"ttl", http.Header{"Push-Ttl": {"3 days"}}, `the header Push-TTL: ttl is "3 days", want a duration such as 30m`},
		{"every", http.Header{"Push-Every": {"-1h"}}, `the header Push-Every: every is "-1h"`},
		{"grace", http.Header{"Push-Grace": {"200y"}}, `the header Push-Grace: grace is "200y"`},
		{"schedule", http.Header{"Push-Schedule": {"@daily"}}, `the header Push-Schedule: schedule "@daily" has not just five fields`},
		{"every beside schedule", http.Header{"Push-Every": {"1d"}, "Push-Schedule": {"15 3 * * *"}}, "the header Push-Every: every and schedule are both set"},
		{"both take back", http.Header{"Push-Every": {"0"}, "Push-Schedule": {"0"}}, "every and schedule are both set"},
		{"twice", http.Header{"Push-Ttl": {"1h", "2h"}}, "the header Push-TTL comes twice, with different values"},
		{"twice, once empty", http.Header{"Push-Failed": {"x", ""}}, "the header Push-Failed comes twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, method := range []string{"PUT", "POST"} {
				p := &pusher{result: change.Outcome{Kind: change.Applied}}
				r := httptest.NewRequest(method, "/metrics/job/j", strings.NewReader("m 1\n"))
				r.Header = tt.header
				w := httptest.NewRecorder()
				newHandler(p, exposition.Limits{}).ServeHTTP(w, r)
				if p.last != nil || w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), tt.says) {
					t.Errorf("%s: %d %s", method, w.Code, w.Body)
				}
			}
		})
	}
}

// TestOnceOfPushes: a push may have a key of its own, which stands for it with all that it says.
func TestOnceOfPushes(t *testing.T) {
	var got []*change.Change
	handler := newHandler(pusherFunc(func(_ context.Context, c *change.Change) change.Outcome {
		got = append(got, c)
		return change.Outcome{Kind: change.Applied}
	}), exposition.Limits{})
	ask := func(method, body, key, ttl string) int {
		r := httptest.NewRequest(method, "/metrics/job/j", strings.NewReader(body))
		r.Header.Set(push.OnceHeader, key)
		if ttl != "" {
			r.Header.Set(push.TTLHeader, ttl)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for _, tt := range [][4]string{{"POST", "m 1\n", "k", ""}, {"POST", "m 1\n", "k", ""}, {"POST", "m 2\n", "k", ""}, {"PUT", "m 1\n", "k", ""}, {"POST", "m 1\n", "k", "1h"}, {"POST", "m 1\n", "l", ""}, {"DELETE", "", "k", ""}} {
		if code := ask(tt[0], tt[1], tt[2], tt[3]); code/100 != 2 {
			t.Errorf("%v: %d", tt, code)
		}
	}
	first := got[0].Once
	for i, same := range []struct{ key, digest bool }{{true, true}, {true, true}, {true, false}, {true, false}, {true, false}, {false, true}, {true, false}} {
		if once := got[i].Once; (once.Key == first.Key) != same.key || (once.Digest == first.Digest) != same.digest {
			t.Errorf("push %d has %x", i, once)
		}
	}
	if code := ask("POST", "m 1\n", strings.Repeat("k", 257), ""); code != 400 {
		t.Errorf("a long key: %d", code)
	}
	if ask("POST", "m 1\n", "", ""); got[len(got)-1].Once != nil {
		t.Error("an empty key is one")
	}
}

// TestOperationOfPushes: a POST may ask to replace single series, or to add; a DELETE has nothing to ask for (L11).
func TestOperationOfPushes(t *testing.T) {
	for _, tt := range []struct {
		method string
		header []string
		want   change.Operation
		says   string
	}{
		{method: "POST", want: change.Merge},
		{method: "POST", header: []string{" "}, want: change.Merge},
		{method: "POST", header: []string{"add"}, want: change.Add},
		{method: "POST", header: []string{" merge\t", "merge"}, want: change.MergeSeries},
		{method: "PUT", want: change.Replace},
		{method: "DELETE", header: []string{"add"}, want: change.Delete},
		{method: "PUT", header: []string{"add"}, says: "the header Push-Operation goes with POST: a PUT replaces all that the group has"},
		{method: "POST", header: []string{"Add"}, says: `the header Push-Operation is "Add", want "merge" (replace single series) or "add"`},
		{method: "POST", header: []string{"add", "merge"}, says: "the header Push-Operation comes twice, with different values"},
	} {
		p := &pusher{result: change.Outcome{Kind: change.Applied}}
		r := httptest.NewRequest(tt.method, "/metrics/job/j", strings.NewReader("m 1\n"))
		r.Header[push.OperationHeader] = tt.header
		w := httptest.NewRecorder()
		newHandler(p, exposition.Limits{}).ServeHTTP(w, r)
		switch {
		case tt.says != "" && (p.last != nil || w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), tt.says)):
			t.Errorf("%s %q: %d %s, want %q", tt.method, tt.header, w.Code, w.Body, tt.says)
		case tt.says == "" && (p.last == nil || p.last.Operation != tt.want || p.last.Gauges != addup.Last):
			t.Errorf("%s %q: %+v, want %v", tt.method, tt.header, p.last, tt.want)
		}
	}
}
