package relaytest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	// described is what a descriptor says of itself: its name, help and labels are to be had in no other way.
	described = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: "((?:[^"\\]|\\.)*)", unit: ".*", constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)
	// foreign are metrics of libraries, which their own documentation has.
	foreign = regexp.MustCompile(`^(go|process|promhttp)_`)
)

// WantInReference fails unless the first table below a heading of docs/reference/metrics.md has one row for each metric that is described, with its
// labels and its help, and no other row.
func WantInReference(t testing.TB, heading string, collectors ...prometheus.Collector) {
	t.Helper()
	var want []string
	for _, c := range collectors {
		descs := make(chan *prometheus.Desc)
		go func() { // ends with the last of them, which are all received below
			c.Describe(descs)
			close(descs)
		}()
		for desc := range descs {
			parts := described.FindStringSubmatch(desc.String())
			if parts == nil {
				t.Errorf("%s is not understood", desc)
				continue
			}
			name := strings.Trim(parts[1], `"`)
			if foreign.MatchString(name) {
				continue
			}
			if parts[3] != "" {
				name += "{" + parts[3] + "}"
			}
			want = append(want, "| `"+name+"` | "+strings.NewReplacer(`\"`, `"`, "|", `\|`, "<", "&lt;").Replace(parts[2])+" |")
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	page, err := os.ReadFile(filepath.FromSlash("../../docs/reference/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "\n"+heading+"\n")
	_, text, hasTable := strings.Cut(text, "\n|---|---|\n")
	if !found || !hasTable {
		t.Fatalf("the page has no table below %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n\n")
	rows := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if !slices.IsSorted(rows) {
		t.Errorf("the table below %q is not in order", heading)
	}
	for _, row := range want {
		if !slices.Contains(rows, row) {
			t.Errorf("docs/reference/metrics.md, %q, does not have\n%s", heading, row)
		}
	}
	for _, row := range rows {
		if !slices.Contains(want, row) {
			t.Errorf("docs/reference/metrics.md, %q, has what is not exposed:\n%s", heading, row)
		}
	}
}
