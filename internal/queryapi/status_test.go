package queryapi_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/queryapi"
)

func TestStatus(t *testing.T) {
	started := time.Date(2026, 11, 22, 7, 33, 0, 5, time.UTC)
	_, got := get(t, queryapi.Status(map[string]string{"web.telemetry-path": "/metrics"}, started))
	data := got["data"].(map[string]any)
	build := data["build_information"].(map[string]any)
	for _, name := range []string{"branch", "buildDate", "buildUser", "goVersion", "revision", "version"} {
		if _, ok := build[name].(string); !ok {
			t.Errorf("build_information has no %s: %v", name, build)
		}
	}
	if build["goVersion"] != runtime.Version() {
		t.Errorf("goVersion = %v, want %s", build["goVersion"], runtime.Version())
	}
	delete(data, "build_information")
	want := map[string]any{"status": "success", "data": map[string]any{
		"flags": map[string]any{"web.telemetry-path": "/metrics"}, "start_time": "2026-11-22T07:33:00.000000005Z",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestOptions(t *testing.T) {
	w := httptest.NewRecorder()
	queryapi.Options()(w, httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/api/v1/zzz", nil))
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("OPTIONS: %d %q %v, want 200, nothing, and the headers of the API", w.Code, w.Body, w.Header())
	}
}
