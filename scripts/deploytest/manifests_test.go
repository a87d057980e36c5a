package deploytest_test

import (
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deploy/kubernetes anew")

// TestManifests: the manifests for whoever has no Helm are what the charts render, without its name in them.
func TestManifests(t *testing.T) {
	for file, tt := range map[string]struct {
		chart, values string
		only          string // of the chart's templates; empty for all
	}{
		"relay.yaml":               {"relay-server", "serverNames: [relay.example.org]", ""},
		"agent.yaml":               {"relay-agent", "", ""},
		"prometheus-operator.yaml": {"relay-server", "monitoring: {serviceMonitor: {enabled: true}, scrapeConfig: {enabled: true}}", "monitoring.yaml"},
	} {
		files, _, err := render(t.Context(), tt.chart, chartCase{tt.chart, tt.values}.read(t))
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		want.WriteString(heads[file])
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if content := strings.TrimSpace(files[name]); content != "" && (tt.only == "" || tt.only == name) {
				want.WriteString("---\n" + strings.TrimPrefix(content, "---\n") + "\n")
			}
		}
		text := ofHelm.ReplaceAllString(want.String(), "")
		if len(decode(t, text)) == 0 {
			t.Errorf("%s has nothing in it", file)
		}
		path := "../../deploy/kubernetes/" + file
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(t, path); got != text {
			t.Errorf("%s is not what the chart renders: go test -C scripts/deploytest -run=TestManifests . -update", path)
		}
	}
}

// ofHelm are lines that say that Helm has installed it.
var ofHelm = regexp.MustCompile(`(?m)^ *(app\.kubernetes\.io/managed-by|helm\.sh/chart|app\.kubernetes\.io/version): .*\n`)

const madeFrom = "# What the chart in deploy/helm renders, for whoever has no Helm. Change first: "

var heads = map[string]string{
	"relay.yaml": madeFrom + "the image, the storage, and relay.example.org, the name by which agents dial.\n",
	"agent.yaml": madeFrom + "the image, and agent.yml, which says what may be scraped.\n# It wants a Secret with a join token for its name, which is that of its pod (relay-server agents token relay-agent-0):\n" +
		"# kubectl --namespace=monitoring create secret generic join-token --from-file=token=FILE\n",
	"prometheus-operator.yaml": madeFrom + "labels, if your Prometheus selects by them.\n# The first takes the relay's page, with what was pushed; the second all that is behind its agents.\n",
}
