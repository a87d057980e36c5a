package push

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// RefuseAmbiguous answers pushes 400 whose path means another group once it is cleaned.
//
// A path with an empty segment, a "." or a ".." is redirected to the path without it. Most clients take the redirect for
// an answer, `curl --fail` for a good one, and those that follow it push to a group that nobody named: an empty variable in
// `/metrics/job/$JOB/instance/$INSTANCE/zone/$ZONE` is enough. Where cleaning keeps the meaning (`//metrics/job/j`,
// `/metrics/job/j//instance/i`) the redirect stays, because clients live with it.
func RefuseAmbiguous(prefix string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut, http.MethodPost, http.MethodDelete:
			if reason := ambiguity(strings.TrimPrefix(r.URL.Path, prefix)); reason != "" {
				http.Error(w, reason, http.StatusBadRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ambiguity says what is wrong with the path of a push, below the prefix; nothing if it is none, or means one thing only.
func ambiguity(path string) string {
	rest, ok := strings.CutPrefix(path, "/metrics/job/")
	if !ok {
		if rest, ok = strings.CutPrefix(path, "/metrics/job@base64/"); !ok {
			return ""
		}
	}
	segments := strings.Split(strings.TrimRight(rest, "/"), "/") // slashes at the end change nothing
	if segments[0] == "" {
		return "job name is required"
	}
	if i := slices.IndexFunc(segments, func(s string) bool { return s == "." || s == ".." }); i >= 0 {
		return fmt.Sprintf("the path of a push cannot have the segment %q: write the value after NAME@base64", segments[i])
	}
	for i := 1; i < len(segments); i++ {
		name := segments[i]
		if name == "" {
			continue // between two pairs: cleaning keeps the meaning
		}
		i++
		if i < len(segments) && segments[i] == "" {
			name = strings.TrimSuffix(name, "@base64")
			return fmt.Sprintf("label %q has an empty value in the path of a push: write it as %s@base64/=", name, name)
		}
	}
	return ""
}
