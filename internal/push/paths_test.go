package push_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pushrelay/internal/push"
)

// TestRefuseAmbiguous: a path that cleaning turns into that of another group is refused, and one that has slashes of both
// kinds; one that keeps its meaning is not.
func TestRefuseAmbiguous(t *testing.T) {
	const (
		noJob = "job name is required"
		foo   = `label "foo" has an empty value in the path of a push: write it as foo@base64/=`
		dots  = `the path of a push cannot have the segment "..": write the value after NAME@base64`
		slash = "a value has a slash in the path of a push, where one separates even as %2F: write it as "
		pair  = `"k/v" stands for a label name in the path of a push: escape no slash between names and values`
	)
	tests := []struct{ path, want string }{
		{"/metrics/job/j", ""},
		{"/metrics/job/j/", ""},
		{"/metrics/job/j/foo/bar", ""},
		{"/metrics/job/j/foo/", ""},
		{"/metrics/job/j/foo/bar/", ""},
		{"/metrics/job/j//foo/bar", ""},
		{"/metrics/job/j/foo/bar//a/b", ""},
		{"/metrics/job@base64/eA/l@base64/=", ""},
		{"//metrics/job/j", ""},
		{"/metrics", ""},
		{"/metrics/job", ""},
		{"/metrics/job/", noJob},
		{"/metrics/job//foo/bar", noJob},
		{"/metrics/job@base64//foo/bar", noJob},
		{"/metrics/job/j/foo//bar/x", foo},
		{"/metrics/job/j/foo//", ""},
		{"/metrics/job/j/foo@base64//bar/x", foo},
		{"/metrics/job/j/a/b/foo//bar/x", foo},
		{"/metrics/job/j/foo/..", dots},
		{"/metrics/job/../x", dots},
		{"/metrics/job/j/foo/...", ""},
		{"/other/job//x", ""},

		// A slash in a value.
		{"/metrics/job/j/branch/a%2Fb%2Fc", slash + "branch@base64/YS9iL2M"},
		{"/metrics/job/j/branch/a%2fb", slash + "branch@base64/YS9i"},
		{"/metrics/job/j/path/%2Fvar%2Ftmp", slash + "path@base64/L3Zhci90bXA"},
		{"/metrics/job/j/path/%2F", slash + "path@base64/Lw"},
		{"/metrics/job/j/path/var%2F/x/y", slash + "path@base64/dmFyLw"},
		{"/metrics/job/j/k/a%2Fb/z", slash + "k@base64/YS9i"},
		{"/metrics/job/j/k/a%2Fb/l/c%2Fd/m/n", slash + "k@base64/YS9i/l@base64/Yy9k"},
		{"/metrics/job/j//k/a%2Fb/", slash + "k@base64/YS9i"},
		{"/metrics/job/a%2Fb/instance/x", slash + "job@base64/YS9i"},
		{"/metrics/job/a%2Fb/x", slash + "job@base64/YS9i"},
		{"/metrics/job/a%2Fb/k/c%2Fd", slash + "job@base64/YS9i/k@base64/Yy9k"},
		{"/metrics/job@base64/Pz8%2F/k/v", slash + "job@base64/Pz8_"},
		{"/metrics/job/j/k@base64/Pz8%2F+w", slash + "k@base64/Pz8_-w"},
		{"/metrics/job/j/k/%2E%2E%2Fetc", slash + "k@base64/Li4vZXRj"},
		{"/metrics/job/j/k%2Fv/l/w", pair},
		{"/metrics/job/j/k%252Fv/l/w", ""}, // no slash at all
		// A rest that is escaped as a whole.
		{"/metrics/job/j/k%2Fv", ""},
		{"/metrics/job/j/k%2Fv/", ""},
		{"/metrics/job/j/k%2Fv%2Fl%2Fw", ""},
		{"/metrics/job/j%2Fk%2Fv", ""},
		{"/metrics/job@base64/eA/k%2Fv", ""},
		{"/metrics%2Fjob%2Fj%2Fk%2Fv", ""},
		{"/metrics/job/j/foo%2F%2Fbar%2Fx", foo},
		{"/metrics/job/%2Fx", noJob},
	}
	for _, prefix := range []string{"", "/some/prefix"} {
		for _, tt := range tests {
			for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodGet} {
				want := tt.want
				if method == http.MethodGet || prefix != "" && strings.HasPrefix(tt.path, "//") {
					want = ""
				}
				passed := false
				h := push.RefuseAmbiguous(prefix, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true }))
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(method, "http://relay"+prefix+tt.path, nil))
				got := strings.TrimSuffix(w.Body.String(), "\n")
				if got != want || passed != (want == "") || !passed && w.Code != http.StatusBadRequest {
					t.Errorf("%s %s%s = %d %q, passed on: %v, want %q", method, prefix, tt.path, w.Code, got, passed, want)
				}
			}
		}
	}
}
