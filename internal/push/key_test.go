package push_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/push"
)

func TestCheckKey(t *testing.T) {
	limits := exposition.Limits{MaxLabels: 3, MaxLabelLength: 8}
	label := func(name, value string) grouping.Label { return grouping.Label{Name: name, Value: value} }
	for _, tt := range []struct {
		name   string
		limits exposition.Limits
		labels []grouping.Label
		want   string
	}{
		{"within", limits, []grouping.Label{label("job", "12345678"), label("a", ""), label("b", "")}, ""},
		{"too many labels", limits, []grouping.Label{label("job", "j"), label("a", ""), label("b", ""), label("c", "")}, "--push.max-labels"},
		{"a long value", limits, []grouping.Label{label("job", "123456789")}, "--push.max-label-length"},
		{"a long name", limits, []grouping.Label{label("job", "j"), label("a23456789", "")}, "--push.max-label-length"},
		{"no limits", exposition.Limits{}, []grouping.Label{label("job", strings.Repeat("x", 1<<20))}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key, err := grouping.New(tt.labels...)
			if err != nil {
				t.Fatal(err)
			}
			err = push.CheckKey(key, tt.limits)
			if (err != nil) != (tt.want != "") || err != nil && (!errors.Is(err, change.Invalid) || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 300) {
				t.Errorf("CheckKey = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestKeysAreBounded: a push with a key beyond the limits is refused, and a group that has such a key can be deleted.
func TestKeysAreBounded(t *testing.T) {
	handler := newHandler(&pusher{result: change.Outcome{Kind: change.Applied}}, exposition.Limits{MaxLabels: 64, MaxLabelLength: 16 << 10})
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, "/l%d/v", i)
	}
	for name, path := range map[string]string{"a long value": "/metrics/job/" + strings.Repeat("x", 60_000), "many labels": "/metrics/job/j" + many.String()} {
		for method, want := range map[string]int{http.MethodPut: http.StatusBadRequest, http.MethodPost: http.StatusBadRequest, http.MethodDelete: http.StatusAccepted} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("m 1\n")))
			if w.Code != want || want == http.StatusBadRequest && !strings.Contains(w.Body.String(), "--push.max-label") {
				t.Errorf("%s: %s is answered %d %s, want %d", name, method, w.Code, w.Body, want)
			}
		}
	}
}
