//go:build linux

package docs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/document"
	"pushrelay/internal/e2e/program"
)

// A block is one that readers copy out of the documentation.
type block struct {
	place    string // file and line
	language string
	lines    []string
}

// blocksOf returns the blocks of a page. A block that is only indented would be copied with its indent, in which no here document
// ends and no YAML fits below what is there.
func blocksOf(file, text string) (blocks []block, err error) {
	var open *block
	listed, before := false, ""
	for n, line := range strings.Split(text, "\n") {
		language, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open != nil:
			blocks = append(blocks, *open)
			open = nil
		case isFence:
			open = &block{place: fmt.Sprintf("%s:%d", file, n+1), language: language}
		case open != nil:
			open.lines = append(open.lines, line)
		case strings.HasPrefix(line, "    ") && before == "" && !listed:
			return nil, fmt.Errorf("%s:%d: a block that is only indented", file, n+1)
		case line != "" && line[0] != ' ':
			listed = strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "* ") || line[0] >= '0' && line[0] <= '9'
		}
		before = line
	}
	if open != nil {
		return nil, fmt.Errorf("%s does not end", open.place)
	}
	return blocks, nil
}

// TestBlocksOfTheDocumentation: what readers copy is whole: shells and YAML parsers take it as it is.
func TestBlocksOfTheDocumentation(t *testing.T) {
	t.Parallel()
	bash := program.RequireProgram(t, "/usr/bin/bash", "bash")
	var blocks []block
	for _, page := range pagesOf(t) {
		found, err := blocksOf(page, client.ReadFile(t, filepath.Join(document.Repository, page)))
		if err != nil {
			t.Error(err)
		}
		blocks = append(blocks, found...)
	}
	if len(blocks) < 40 {
		t.Fatalf("%d blocks were found", len(blocks))
	}
	for _, b := range blocks {
		text := strings.Join(b.lines, "\n") + "\n"
		switch b.language {
		case "sh":
			// With -n an unfinished here document is only a warning.
			if r := program.OutputWithInput(t, program.Command{Path: bash, Args: []string{"-n"}}, text); r.Code != 0 || r.Stderr != "" {
				t.Errorf("%s: %s", b.place, r.Stderr)
			}
		case "yaml":
			var content any
			if err := yaml.Unmarshal([]byte(text), &content); err != nil || content == nil {
				t.Errorf("%s: %v", b.place, err)
			}
		case "haproxy":
			wantConfiguration(t, b, program.RequireProgram(t, "/usr/sbin/haproxy", "haproxy"), text, "-c", "-f")
		case "nginx":
			text = "pid nginx.pid; error_log stderr; events {} http { access_log off; server { listen 127.0.0.1:1;\n" + text + "} }\n"
			wantConfiguration(t, b, program.RequireProgram(t, "/usr/sbin/nginx", "nginx"), text, "-t", "-e", "stderr", "-c")
		case "promql":
			// Each line is a query of its own.
			for line := range strings.Lines(text) {
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(line); err != nil {
					t.Errorf("%s: %v", b.place, err)
				}
			}
		case "console", "crontab", "dockerfile", "ini", "powershell", "text": // docs/README.md says what is looked at in those
		case "":
			if !strings.ContainsAny(text, "─│┌") { // a picture
				t.Errorf("%s: the block does not say what it is", b.place)
			}
		default:
			t.Errorf("%s: %q is no language that is used here", b.place, b.language)
		}
	}
}

// wantConfiguration fails unless a program takes a block as its configuration. The names of relays in it are examples.
func wantConfiguration(t *testing.T, b block, reader, text string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "configuration")
	client.WriteFile(t, file, regexp.MustCompile(`relay-[0-9]\.example\.org`).ReplaceAllString(text, "127.0.0.1"))
	if r := program.Output(t, program.Command{Path: reader, Args: append(args, file), Dir: dir}); r.Code != 0 {
		t.Errorf("%s: %s%s", b.place, r.Stdout, r.Stderr)
	}
}

var (
	// ours is a command of ours in a line of a shell, up to where the shell does something else with it, or it is followed by a command to run.
	ours = regexp.MustCompile(`(?:^|[ (|"])(?:/usr/(?:local/)?bin/|bin/)?(relay-server|relay-agent)((?: (?:\$\([^)]*\)|[^|<>&;#()\n])*)?)`)
	// notOurs are lines in which our programs are what something else is about.
	notOurs = regexp.MustCompile(`^(for|#) |install |systemctl|journalctl|ps -ef|COPY`)
	// elided is what is left out of an example.
	elided = regexp.MustCompile(` …| ?\\$`)
)

// TestCommandsOfTheDocumentation: what readers copy has commands and flags that are there. Whole pages are run by the tests of tutorials, of the first
// use and of the recipe for openssl; everywhere else this is what holds of an example.
func TestCommandsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	bash := program.RequireProgram(t, "/usr/bin/bash", "bash")
	checked := 0
	for _, page := range pagesOf(t) {
		if strings.HasPrefix(page, "docs/decisions/") { // as it was at their time
			continue
		}
		blocks, err := blocksOf(page, client.ReadFile(t, filepath.Join(document.Repository, page)))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			if b.language != "sh" && b.language != "crontab" {
				continue
			}
			text := strings.ReplaceAll(strings.Join(b.lines, "\n"), "\\\n", " ")
			for line := range strings.Lines(text) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " # ")
				found := ours.FindStringSubmatch(strings.TrimPrefix(line, "sudo -u relay-agent "))
				if found == nil || notOurs.MatchString(line) {
					continue
				}
				args, _, _ := strings.Cut(elided.ReplaceAllString(found[2], ""), " -- ")
				path := map[string]string{"relay-server": program.RelayServer(), "relay-agent": program.RelayAgent()}[found[1]]
				r := program.Output(t, program.Command{Path: bash, Args: []string{"-c", "set -- " + args + ` --help; exec "$0" "$@"`, path}})
				if r.Code != 0 || !strings.Contains(r.Stdout, "usage: "+found[1]) {
					t.Errorf("%s: %s%s: %s", b.place, found[1], found[2], r.Stderr)
				}
				checked++
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d commands were found", checked)
	}
}

// TestUnitInTheDocumentation: the pages have one line for the unit of Debian's Pushgateway, with the file that its build keeps by
// default.
func TestUnitInTheDocumentation(t *testing.T) {
	t.Parallel()
	help := program.Output(t, program.Command{Path: program.RequireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway"), Args: []string{"--help"}})
	_, rest, ok := strings.Cut(help.Stdout+help.Stderr, `--persistence.file="`)
	file, _, ok2 := strings.Cut(rest, `"`)
	if !ok || !ok2 || file == "" {
		t.Fatalf("Debian's Pushgateway has no default file: %q", rest)
	}
	want := "ExecStart=\nExecStart=/usr/bin/relay-server --persistence.file=" + file + " $ARGS\n"
	for _, page := range []string{"../../../README.md", "../../../docs/how-to/migrate-from-a-pushgateway.md"} {
		if !strings.Contains(client.ReadFile(t, page), want) {
			t.Errorf("%s does not have\n%s", page, want)
		}
	}
}
