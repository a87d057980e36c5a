package push_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/route"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/push"
)

// unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a push that is not permitted was read")
	return 0, errors.New("read")
}

// TestPermit: who may not push is told so before the body is read, and nothing reaches the store.
func TestPermit(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPut, "/metrics/job/good", 200},
		{http.MethodPut, "/metrics/job/bad", 403},
		{http.MethodPost, "/metrics/job/bad", 403},
		{http.MethodDelete, "/metrics/job/good", 403},
		{http.MethodPut, "/metrics/job/bad/odd", 400},
	} {
		p := &pusher{result: change.Outcome{Kind: change.Applied}}
		r := route.New()
		push.NewHandler(push.HandlerConfig{Applier: p, Logger: promslog.NewNopLogger(), Permit: func(_ *http.Request, op change.Operation, key grouping.Key) error {
			if key.Job() != "good" || op == change.Delete {
				return change.Refuse(change.Forbidden, "no")
			}
			return nil
		}}).Mount(r, func(_ string, h http.HandlerFunc) http.HandlerFunc { return h })
		request := httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, strings.NewReader("m 1\n"))
		if tt.status == 403 {
			request.Body = struct {
				unread
				closer
			}{unread: unread{t}}
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, request)
		if w.Code != tt.status || (p.last != nil) != (tt.status == 200) || tt.status == 403 && w.Body.String() != "no\n" {
			t.Errorf("%s %s = %d %q, applied %v", tt.method, tt.path, w.Code, w.Body, p.last)
		}
	}
}

type closer struct{}

func (closer) Close() error { return nil }
