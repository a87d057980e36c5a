package deploytest_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/strvals"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// A helmCommand is a release that a page installs, with the values that it gives it, those of upgrades included.
type helmCommand struct {
	chart, namespace string
	values           map[string]any
}

var (
	helmLine   = regexp.MustCompile(`(?m)^helm (install|upgrade) .*$`)
	madeToken  = regexp.MustCompile(`agents token ([a-z0-9-]+)`)
	chartOfTgz = regexp.MustCompile(`^(relay-server|relay-agent)-[0-9.]+\.tgz$`)
)

// helmCommands returns the releases of a page, by name, after each of its commands.
func helmCommands(t *testing.T, page string) (after []map[string]helmCommand) {
	t.Helper()
	known := map[string]helmCommand{}
	for _, line := range helmLine.FindAllString(strings.ReplaceAll(page, "\\\n", " "), -1) {
		// A shell says what its words are.
		out, err := exec.CommandContext(t.Context(), "bash", "-c", "helm() { printf '%s\\n' \"$@\"; }; "+line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		words := strings.Split(strings.TrimSpace(string(out)), "\n")
		chart := chartOfTgz.FindStringSubmatch(words[2])
		if chart == nil {
			t.Fatalf("%s: %q is no chart of ours", line, words[2])
		}
		c := helmCommand{chart: chart[1], values: map[string]any{}}
		if words[0] == "upgrade" {
			if !slices.Contains(words, "--reuse-values") {
				t.Errorf("%s: what it was installed with is lost", line)
			}
			c.values = util.CoalesceTables(map[string]any{}, known[words[1]].values)
		}
		for _, word := range words[3:] {
			flag, value, _ := strings.Cut(word, "=")
			switch flag {
			case "--namespace":
				c.namespace = value
			case "--set":
				err = strvals.ParseInto(value, c.values)
			case "--set-file":
				err = strvals.ParseIntoFile(value, c.values, func([]rune) (any, error) { return "scrape_configs: []\n", nil })
			case "--create-namespace", "--reuse-values":
			default:
				t.Errorf("%s: %s is not looked at", line, flag)
			}
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		known[words[1]] = c
		after = append(after, map[string]helmCommand{words[1]: c})
	}
	return after
}

// TestCommandsForKubernetes: what the page has you type is rendered, and an agent comes in by the token that the page has you make.
func TestCommandsForKubernetes(t *testing.T) {
	page := read(t, "../../docs/how-to/run-in-kubernetes.md")
	token := madeToken.FindStringSubmatch(page)
	if token == nil {
		t.Fatal("the page makes no token")
	}
	seen := map[string]int{}
	for _, one := range helmCommands(t, page) {
		for name, c := range one {
			seen[c.chart]++
			files, _, err := renderAs(t.Context(), c.chart, name, c.namespace, c.values)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, o := range decode(t, strings.Join(contentsOf(files), "\n---\n")) {
				checkName(t, o, token[1])
			}
		}
	}
	if seen["relay-server"] < 2 || seen["relay-agent"] < 1 {
		t.Errorf("the page installs %v", seen)
	}
}

// checkName fails if an agent says another name than the token is for, which a relay refuses.
func checkName(t *testing.T, o runtime.Object, token string) {
	t.Helper()
	set, ok := o.(*appsv1.StatefulSet)
	if !ok {
		return
	}
	for _, arg := range set.Spec.Template.Spec.Containers[0].Args {
		if name, ok := strings.CutPrefix(arg, "--enroll.name="); ok && name != token {
			t.Errorf("%s calls itself %s, and the token is for %s", set.Name, name, token)
		}
	}
}

func contentsOf(files map[string]string) (contents []string) {
	for name, content := range files {
		if filepath.Ext(name) == ".yaml" {
			contents = append(contents, content)
		}
	}
	return contents
}
