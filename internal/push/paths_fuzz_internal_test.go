package push

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

// FuzzAmbiguity looks for a path of a push that is not refused although cleaning it names another group, for a key whose own path is
// refused, and for a reason that is more than one line.
func FuzzAmbiguity(f *testing.F) {
	f.Add("/metrics/job/j/instance/i", "j", "instance", "i")
	f.Add("/metrics/job/j//instance//zone/z", "a/b", "path", "/var/tmp")
	f.Add("/metrics/job@base64/L3Zhcg/k/%2F/../m/n", "..", "k", "")
	f.Add("/metrics/job/a%2Fb/k/%2e%2e/", "%2F", "_x", "//")
	f.Fuzz(func(t *testing.T, raw, job, name, value string) {
		if u, err := url.ParseRequestURI(raw); err == nil && (strings.HasPrefix(u.Path, jobPath) || strings.HasPrefix(u.Path, base64JobPath)) {
			reason := ambiguity("", u)
			if strings.ContainsAny(reason, "\r\n") {
				t.Errorf("%q: the reason is %q", raw, reason)
			}
			full := slices.DeleteFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "" })
			if cleaned := strings.Split(strings.TrimPrefix(path.Clean(u.Path), "/"), "/"); reason == "" && !slices.Equal(full, cleaned) {
				t.Errorf("%q is taken, and means %q once it is cleaned", raw, cleaned)
			}
		}
		key, err := grouping.New(grouping.Label{Name: "job", Value: job}, grouping.Label{Name: name, Value: value})
		if err != nil || grouping.CheckLabelName(name, metric.LegacyNames) != nil {
			return
		}
		own := "/metrics/" + key.PathFor(metric.LegacyNames)
		u, err := url.ParseRequestURI(own)
		if err != nil {
			t.Fatalf("the path of %v is %q: %v", key, own, err)
		}
		if reason := ambiguity("", u); reason != "" {
			t.Errorf("%q, the path of %v, is refused: %s", own, key, reason)
		}
	})
}
