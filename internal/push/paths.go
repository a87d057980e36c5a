package push

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"pushrelay/internal/grouping"
)

// The paths of pushes begin with one of these, below the prefix of all routes.
const (
	jobPath       = "/metrics/job/"
	base64JobPath = "/metrics/job" + grouping.Base64Suffix + "/"
)

// IsPush says whether a request is a push by its method and its path.
func IsPush(prefix string, r *http.Request) bool {
	switch r.Method {
	case http.MethodPut, http.MethodPost, http.MethodDelete:
		path := strings.TrimPrefix(r.URL.Path, prefix)
		return strings.HasPrefix(path, jobPath) || strings.HasPrefix(path, base64JobPath)
	default:
		return false
	}
}

// RefuseAmbiguous answers pushes 400 whose path means another group than whoever wrote it can have meant.
//
// A path with an empty segment, a "." or a ".." is redirected to the path without it. Most clients take the redirect for
// an answer, `curl --fail` for a good one, and those that follow it push to a group that nobody named: an empty variable in
// `/metrics/job/$JOB/instance/$INSTANCE/zone/$ZONE` is enough. Where cleaning keeps the meaning (`//metrics/job/j`,
// `/metrics/job/j//instance/i`) the redirect stays, because clients live with it.
//
// A slash separates also when it is escaped, since some clients escape the whole rest of the path. Where escaped ones stand
// beside literal ones they were part of a value.
func RefuseAmbiguous(prefix string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if IsPush(prefix, r) {
			if reason := ambiguity(prefix, r.URL); reason != "" {
				http.Error(w, reason, http.StatusBadRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// ambiguity says what is wrong with the path of a push; nothing if it means one thing only.
func ambiguity(prefix string, u *url.URL) string {
	if reason := mixture(prefix, u); reason != "" {
		return reason
	}
	path := strings.TrimPrefix(u.Path, prefix)
	rest, ok := strings.CutPrefix(path, jobPath)
	if !ok {
		rest = strings.TrimPrefix(path, base64JobPath)
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
			name = strings.TrimSuffix(name, grouping.Base64Suffix)
			return fmt.Sprintf("label %q has an empty value in the path of a push: write it as %s", name, grouping.Base64Component(name, ""))
		}
	}
	return ""
}

// mixture says what is wrong with a path that has a slash in a value.
func mixture(prefix string, u *url.URL) string {
	if u.RawPath == "" {
		return "" // net/url keeps it where a slash is escaped
	}
	escaped := strings.Split(strings.TrimRight(u.EscapedPath(), "/"), "/")
	segments := make([]string, len(escaped))
	for i, s := range escaped {
		segment, err := url.PathUnescape(s)
		if err != nil {
			return "" // not after net/http
		}
		segments[i] = segment
	}
	segments = segments[min(strings.Count(prefix+"/metrics/", "/"), len(segments)):] // from the job on
	if len(segments) < 3 || len(segments) == 3 && !strings.Contains(segments[1], "/") {
		return "" // the rest behind the job is escaped as a whole
	}
	var instead []string
	for i := 0; i+1 < len(segments); i++ {
		name, value := segments[i], segments[i+1]
		if name == "" {
			continue // as in ambiguity
		}
		if strings.Contains(name, "/") {
			return fmt.Sprintf("%q stands for a label name in the path of a push: escape no slash between names and values", name)
		}
		if strings.Contains(value, "/") {
			instead = append(instead, withSlash(name, value))
		}
		i++
	}
	if len(instead) == 0 {
		return ""
	}
	return "a value has a slash in the path of a push, where one separates even as %2F: write it as " + strings.Join(instead, "/")
}

// base64URL turns the standard alphabet of base64 into that for URLs.
var base64URL = strings.NewReplacer("/", "_", "+", "-")

// withSlash spells a label whose value has a slash.
func withSlash(component, value string) string {
	if strings.HasSuffix(component, grouping.Base64Suffix) {
		return component + "/" + base64URL.Replace(value)
	}
	return grouping.Base64Component(component, value)
}
