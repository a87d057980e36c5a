package targets

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/target"
)

// A bench is target discovery over a directory with files.
type bench struct {
	*Discovery
	t         *testing.T
	dir       string
	announced target.Set
	log       bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.Discovery = NewDiscovery(DiscoveryConfig{
		Announce: func(set target.Set) { b.announced = set }, Logger: slog.New(slog.NewTextHandler(&b.log, nil)), Registerer: prometheus.NewRegistry(),
	})
	t.Cleanup(b.Close)
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

// load applies a configuration; no text is no file.
func (b *bench) load(text string) {
	b.t.Helper()
	file := ""
	if text != "" {
		b.write("agent.yml", text)
		file = filepath.Join(b.dir, "agent.yml")
	}
	cfg, err := Load(file)
	if err == nil {
		err = b.Apply(cfg)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// want compares the addresses that are announced, and whether that is all, for a reason if not.
func (b *bench) want(when, addresses, missing string) {
	b.t.Helper()
	got := []string{}
	for _, t := range b.announced.Targets {
		got = append(got, t.Address)
	}
	if diff := cmp.Diff(strings.Fields(addresses), got); diff != "" {
		b.t.Errorf("%s: targets (-want +got):\n%s", when, diff)
	}
	complete := b.announced.Completeness == target.Complete
	if complete != (missing == "") || !strings.Contains(b.Missing(), missing) || (b.Missing() == "") != complete {
		b.t.Errorf("%s: complete = %t, because %q, want the reason %q", when, complete, b.Missing(), missing)
	}
}

// A list is complete if the configuration and each file that it names were read and say so.
func TestWhatIsMissingIsKnown(t *testing.T) {
	const static = "scrape_configs:\n  - job_name: j\n    static_configs: [{targets: [\"a:1\"]}]\n"
	files := func(pattern string) string {
		return "scrape_configs:\n  - job_name: j\n    file_sd_configs: [{files: [\"" + pattern + "\"]}]\n"
	}
	for name, tt := range map[string]struct{ text, addresses, missing string }{
		"no file":                {"", "", "no configuration says which targets there are"},
		"nothing in it":          {"# nothing\n", "", "no configuration says"},
		"other sections only":    {"textfile_configs: []\n", "", "no configuration says"},
		"a section without jobs": {"scrape_configs:\n", "", "no configuration says"},
		"no targets, expressly":  {"scrape_configs: []\n", "", ""},
		"targets":                {static, "a:1", ""},
		"a job that was cut off": {static + "  - job_name: k\n", "a:1", `job "k" has neither static_configs nor file_sd_configs`},
		"a job without targets":  {"scrape_configs:\n  - job_name: j\n    static_configs: []\n", "", ""},
		"a missing file":         {files("none.yml"), "", "none.yml: reading targets: "},
		"an empty file":          {files("empty.yml"), "", "there is nothing in it"},
		"a file of comments":     {files("comments.yml"), "", "there is nothing in it"},
		"a broken file":          {files("broken.yml"), "", "broken.yml: reading targets: "},
		"no match":               {files("none-*.yml"), "", `none-*.yml"`},
		"a good file":            {files("good.yml"), "b:1", ""},
		"a file that says none":  {files("none-at-all.json"), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write("empty.yml", "")
			b.write("comments.yml", "# later\n---\n")
			b.write("broken.yml", "- targets: [\n")
			b.write("good.yml", "- targets: [\"b:1\"]\n")
			b.write("none-at-all.json", "[]")
			b.load(tt.text)
			b.want("at the start", tt.addresses, tt.missing)
		})
	}
}

// What happens to files of a running agent.
func TestWhatGoesMissingIsKnown(t *testing.T) {
	b := newBench(t)
	step := func(when, addresses, missing string) {
		t.Helper()
		b.refresh()
		b.want(when, addresses, missing)
	}
	b.write("a.yml", "- targets: [\"a:1\"]\n")
	b.write("b.yml", "- targets: [\"b:1\"]\n")
	b.load("scrape_configs:\n  - job_name: j\n    file_sd_configs: [{files: [\"?.yml\"]}]\n")
	b.want("at the start", "a:1 b:1", "")
	b.write("a.yml", "")
	step("a file that is emptied keeps its targets", "a:1 b:1", "")
	b.write("a.yml", "[]")
	step("a file that says so has none", "b:1", "")
	b.remove("a.yml")
	step("nothing goes with a file that has none", "b:1", "")
	b.remove("b.yml")
	step("a file that goes", "", "b.yml is gone")
	b.write("a.yml", "- targets: [\"a:1\"]\n")
	b.write("b.yml", "- targets: [\"b:1\"]\n")
	step("they are back", "a:1 b:1", "")
	b.remove("b.yml")
	step("one file of two goes", "a:1", "b.yml is gone")
	step("and that was told", "a:1", "")
	b.load("scrape_configs: [{job_name: j}]\n")
	b.want("a reload that takes the files of the job away", "", "")
	b.load("scrape_configs: []\n")
	b.want("a reload that takes the job away", "", "")
	b.load("# nothing\n")
	b.want("a reload that says nothing", "", "no configuration says")
	for _, want := range []string{"targets may be missing", "b.yml is gone", "no configuration says", "the list of targets is complete"} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, &b.log)
		}
	}
}

// The label instance is the address as it is written; the name in URLs has the port, as it always had.
func TestInstanceIsTheAddressAsWritten(t *testing.T) {
	b := newBench(t)
	b.load(`
scrape_configs:
  - job_name: j
    static_configs:
      - targets: ["db", "DB.example.org", "[::1]", "cache:80"]
      - {targets: ["web"], labels: {instance: ""}}
      - {targets: ["web"], labels: {instance: "w-1"}}
  - {job_name: s, scheme: https, static_configs: [{targets: ["db"]}]}
`)
	got := map[string]string{}
	for _, x := range b.announced.Targets {
		got[x.Instance+" at "+x.Address] = x.Name
	}
	want := map[string]string{
		"db at db:80":                         "j-db:80",
		"DB.example.org at DB.example.org:80": "j-DB.example.org:80",
		"[::1] at [::1]:80":                   "j-_::1_:80-5be410af2bc5",
		"web at web:80":                       "j-web:80-0998915374ee",
		"w-1 at web:80":                       "j-web:80-d64679e08a0a",
		"cache:80 at cache:80":                "j-cache:80",
		"db at db:443":                        "s-db:443",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// Files that make the list longer than a relay takes change nothing, and are told once.
func TestTooManyTargetsChangeNothing(t *testing.T) {
	b := newBench(t)
	b.write("in-a.yml", `[{targets: ["a:1"]}]`)
	b.load("scrape_configs: [{job_name: j, file_sd_configs: [{files: [\"in-*.yml\"]}], static_configs: [{targets: [\"s:1\"]}]}]")
	many := strings.Builder{}
	for i := range target.MaxTargets {
		fmt.Fprintf(&many, "%q,", fmt.Sprintf("m%d:1", i))
	}
	b.write("in-b.yml", "[{targets: ["+many.String()+"]}]")
	b.refresh()
	b.refresh()
	if got := len(b.announced.Targets); got != 2 || strings.Count(b.log.String(), "pass a bound of relays") != 1 {
		t.Errorf("%d targets are announced, want the 2 of before:\n%.2000s", got, b.log.String())
	}
	b.write("in-b.yml", `[{targets: ["b:1"]}]`)
	b.refresh()
	if got := len(b.announced.Targets); got != 3 || !strings.Contains(b.log.String(), "within the bounds of relays again") {
		t.Errorf("%d targets are announced, want 3:\n%.2000s", got, b.log.String())
	}
}
