//go:build linux

package alerts_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/document"
)

const runbook = "../../../docs/runbook.md"

// tableBelow returns the rows of the first table below a heading, as their cells.
func tableBelow(t testing.TB, file, heading string) (rows [][]string) {
	t.Helper()
	_, text, found := strings.Cut(client.ReadFile(t, file), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", file, heading)
	}
	for line := range strings.Lines(text) {
		line, isRow := strings.CutPrefix(strings.TrimSpace(line), "| ")
		switch {
		case isRow:
			rows = append(rows, strings.Split(strings.TrimSuffix(line, " |"), " | "))
		case len(rows) > 0 && !strings.HasPrefix(line, "|---"):
			return rows[1:]
		}
	}
	if len(rows) == 0 {
		t.Fatalf("%s has no table below %q", file, heading)
	}
	return rows[1:]
}

// TestRunbookHasEveryAlert: whoever has an alert finds its section by its name.
func TestRunbookHasEveryAlert(t *testing.T) {
	t.Parallel()
	var want, got []string
	rules, _ := rulesOf(t)
	for _, r := range rules {
		if r.Alert != "" {
			_, anchor, _ := strings.Cut(r.Annotations["runbook"], "#")
			want = append(want, fmt.Sprintf("`%s` %s (#%s)", r.Alert, r.Labels["severity"], anchor))
		}
	}
	target := regexp.MustCompile(`^\[.*\](\(#[\w-]+\))$`)
	for _, row := range tableBelow(t, runbook, "## By alert") {
		section := target.FindStringSubmatch(row[2])
		if section == nil {
			t.Fatalf("%q is no link", row[2])
		}
		got = append(got, row[0]+" "+row[1]+" "+section[1])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the run book has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// logged finds what is logged at level warn or error: a message is a literal in the line of its call.
var logged = regexp.MustCompile(`\.(?:Warn|Error)\("((?:[^"\\]|\\.)+)"|slog\.LevelWarn, [^"\n]*(?:"", )?"((?:[^"\\]|\\.)+)"`)

// TestRunbookHasEveryMessage: whoever reads a warning or an error in a log finds by its first words what to do; and the run book has no message that no
// program says any more.
func TestRunbookHasEveryMessage(t *testing.T) {
	t.Parallel()
	messages := map[string]string{} // by themselves, where they are logged
	var source strings.Builder
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(document.Repository, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text := client.ReadFile(t, path)
			source.WriteString(text)
			for _, found := range logged.FindAllStringSubmatch(text, -1) {
				messages[found[1]+found[2]] = path
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(messages) < 80 {
		t.Fatalf("only %d messages were found", len(messages))
	}
	explained := map[string]bool{}
	for _, row := range tableBelow(t, runbook, "## By message") {
		begin := strings.Trim(row[0], "`")
		if len(row) != 2 || !strings.Contains(source.String(), begin) {
			t.Errorf("the run book has the message %q, which no program says", begin)
		}
		for m := range messages {
			explained[m] = explained[m] || strings.HasPrefix(m, begin)
		}
	}
	for m, path := range messages {
		if !explained[m] {
			t.Errorf("docs/runbook.md, \"By message\", does not have %q, of %s", m, path)
		}
	}
}
