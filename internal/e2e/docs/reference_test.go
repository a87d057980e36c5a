//go:build linux

package docs_test

import (
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/config"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/document"
	"pushrelay/internal/e2e/program"
)

// sourceOf returns the text of all files of the programs below a folder of this repository whose content matches; nil for all.
func sourceOf(t testing.TB, folder string, matches *regexp.Regexp) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join(document.Repository, folder), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if text := client.ReadFile(t, path); matches == nil || matches.MatchString(text) {
			all.WriteString(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// found returns what the first group of the pattern matches, each once, and fails if that is less than there must be.
func found(t testing.TB, pattern, text string, least int) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) < least {
		t.Fatalf("%s matches only %q", pattern, all)
	}
	return all
}

// wantNamed fails unless a page of the reference has each of the names as code.
func wantNamed(t testing.TB, page string, names []string) {
	t.Helper()
	text := client.ReadFile(t, filepath.Join(document.Repository, "docs/reference", page))
	for _, name := range names {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/reference/%s does not have `%s`", page, name)
		}
	}
}

// TestReferenceOfCommands: the pages of commands and flags are what the programs say.
func TestReferenceOfCommands(t *testing.T) {
	t.Parallel()
	for name, path := range program.ProgramsForPeople() {
		want := program.MustOutput(t, program.Command{Path: path, Args: []string{"--help-markdown"}})
		if got := client.ReadFile(t, filepath.Join(document.Repository, "docs/reference", name+".md")); got != want {
			t.Errorf("docs/reference/%s.md is not what %s --help-markdown says: run 'make reference' and commit the result", name, name)
		}
	}
}

// TestReferenceOfExitCodes: each command has its exit codes in the reference, and those that its help has.
func TestReferenceOfExitCodes(t *testing.T) {
	t.Parallel()
	codes := regexp.MustCompile(`\b(?:(\d+|128\+N) [a-z` + "`" + `])`)
	codesOf := func(text string) (all []string) {
		for _, m := range codes.FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return all
	}
	rows := map[string][]string{} // by program and command
	text := client.ReadFile(t, filepath.Join(document.Repository, "docs/reference/exit-codes.md"))
	for _, row := range found(t, `(?m)^\| (`+"`relay-.*) \\|$", text, 12) {
		of, said, _ := strings.Cut(row, " | ")
		commands := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(of, -1)
		program := ""
		for _, c := range commands { // the program is said of the first, and of another one when it changes
			command := c[1]
			if first, rest, _ := strings.Cut(command, " "); strings.HasPrefix(first, "relay-") && rest != "" {
				program, command = first, rest
			}
			rows[program+" "+command] = codesOf(said)
		}
	}
	checked := 0
	for name, path := range program.ProgramsForPeople() {
		page := program.MustOutput(t, program.Command{Path: path, Args: []string{"--help-markdown"}})
		group := "" // what the help of a group of commands says is true of each
		for _, section := range strings.Split(page, "\n## ")[2:] {
			title, help, _ := strings.Cut(section, "\n")
			_, said, has := strings.Cut(help, "Exit codes")
			said, _, _ = strings.Cut(said, "\n")
			if strings.Contains(help, title+" <command>`") {
				group = said
				continue
			}
			if !has && strings.Contains(title, " ") {
				said = group
			}
			want := []string{"0", "1", "2"}
			if said != "" {
				want = codesOf(said)
			}
			got, isThere := rows[name+" "+title]
			if !isThere || !slices.Equal(got, want) {
				t.Errorf("docs/reference/exit-codes.md has of %s %s %q, want %q", name, title, got, want)
			}
			checked++
		}
	}
	if checked < 30 || checked != len(rows) {
		t.Errorf("there are %d commands, and the reference has %d", checked, len(rows))
	}
}

// TestReferenceOfRoutes: each path that a router has is in the reference.
func TestReferenceOfRoutes(t *testing.T) {
	t.Parallel()
	want := found(t, `"(/[^"\s]*)"`, sourceOf(t, "internal", regexp.MustCompile(`route\.(?:Router|New)\b`)), 25)
	want = append(want, found(t, `GroupsPath = "(/[^"]*)"`, sourceOf(t, "internal/relayapi", nil), 1)...)
	if behind := slices.Index(want, "/*labels"); behind >= 0 {
		want = slices.Replace(want, behind, behind+1, "/metrics/job/:job/*labels", "/metrics/job@base64/:job/*labels")
	}
	wantNamed(t, "routes.md", want)
	page := client.ReadFile(t, filepath.Join(document.Repository, "docs/reference/routes.md"))
	for _, path := range found(t, `Path\s+= "(/[^"]*)"`, client.ReadFile(t, filepath.Join(document.Repository, "internal/web/changes.go")), 2) {
		if row := "| `POST` `" + path + "` |"; !strings.Contains(page, row) {
			t.Errorf("docs/reference/routes.md does not have %s", row)
		}
	}
}

// TestReferenceOfGroupsMetrics: what the programs themselves say of a group, beside what was pushed, is in the reference. Their own metrics are compared
// with their registries, in relay and agent.
func TestReferenceOfGroupsMetrics(t *testing.T) {
	t.Parallel()
	page := client.ReadFile(t, filepath.Join(document.Repository, "docs/reference/metrics.md"))
	for _, name := range found(t, `"((?:job|push|node_textfile)_(?:up|[a-z_]+_(?:seconds|bytes)|exit_code|running))"`, sourceOf(t, "internal", nil), 13) {
		if !strings.Contains(page, "`"+name) {
			t.Errorf("docs/reference/metrics.md does not have %s", name)
		}
	}
}

// TestReferenceOfHeaders: each header of this protocol that the programs read or write is in the reference.
func TestReferenceOfHeaders(t *testing.T) {
	t.Parallel()
	source := sourceOf(t, "internal", nil) + sourceOf(t, "cmd", nil)
	wantNamed(t, "headers.md", found(t, `"((?:X-Relay-|X-Prometheus-|Push-|Idempotency-)[A-Za-z-]+)"`, source, 11))
}

// TestReferenceOfKeys: each key that the configuration files may have is in the reference.
func TestReferenceOfKeys(t *testing.T) {
	t.Parallel()
	keys := found(t, `yaml:"([a-z_]+)"`, sourceOf(t, "internal/targets", nil)+sourceOf(t, "internal/textfile", nil), 18)
	keys = append(keys, "push_rules", "global")
	ofClients := reflect.TypeFor[config.HTTPClientConfig]()
	for _, of := range []reflect.Type{ofClients, reflect.TypeFor[config.ProxyConfig]()} {
		for field := range of.Fields() {
			if key, _, _ := strings.Cut(field.Tag.Get("yaml"), ","); key != "" && key != "-" {
				keys = append(keys, key)
			}
		}
	}
	judged := client.ReadFile(t, filepath.Join(document.Repository, "internal/targets/keys.go"))
	for _, list := range found(t, `(?s)(?:leftToPrometheus|prometheusSections) = \[\]string\{(.*?)\}`, judged, 2) {
		keys = append(keys, found(t, `"([a-z_0-9]+)"`, list, 8)...)
	}
	wantNamed(t, "agent-configuration.md", append(keys, found(t, `(?m)^\t"([a-z_]+)":`, judged, 2)...))

	// Rules name their keys where they are read.
	for page, folder := range map[string]string{"push-rules.md": "internal/pushrules", "policy.md": "internal/policy"} {
		for _, call := range found(t, `(?:yamldoc\.Settings|readRule)\(((?:mapping|element), "[^"]*", ".*)\)`, sourceOf(t, folder, nil), 1) {
			wantNamed(t, page, found(t, `"([a-z_]+)"`, call, 3))
		}
	}
	wantNamed(t, "policy.md", []string{"agents", "users"})
}
