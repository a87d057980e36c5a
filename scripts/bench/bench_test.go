package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestMain lets the test binary be the target, as the program is in a run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == targetCommand {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestQuick runs everything with small sizes, on the real programs.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	bin, out := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", bin+string(filepath.Separator), "./cmd/relay-server", "./cmd/relay-agent")
	build.Dir = filepath.Join("..", "..")
	if words, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the programs: %v\n%s", err, words)
	}
	args := []string{"--quick", "--bin.dir=" + bin, "--json=" + filepath.Join(out, "bench.json"), "--markdown=" + filepath.Join(out, "bench.md")}
	peer := true
	if _, err := exec.LookPath("prometheus-pushgateway"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no Pushgateway to measure beside: `make deps` installs it: %v", err)
		}
		peer = false
		args = append(args, "--pushgateway=")
	}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}

	page, err := os.ReadFile(filepath.Join(out, "bench.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stdout.String(), string(page)); diff != "" {
		t.Errorf("the file is not what was printed (-printed +file):\n%s", diff)
	}
	text, err := os.ReadFile(filepath.Join(out, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	checkRows(t, got, peer)
}

// checkRows looks for a figure in every row, and for rows of every section.
func checkRows(t *testing.T, got report, peer bool) {
	t.Helper()
	rows := map[string]int{}
	for _, r := range got.Rows {
		rows[r.Section]++
		isDifference := strings.Contains(r.What, "net of") // which a sync that was slow for a moment makes negative
		if r.Relay.Median <= 0 && !isDifference || r.Relay.Low > r.Relay.Median || r.Relay.Median > r.Relay.High {
			t.Errorf("%s: %s is %+v", r.Section, r.What, r.Relay)
		}
		if r.Met != nil {
			t.Errorf("%s: %s was judged in a quick run", r.Section, r.What)
		}
		if peer && r.Section == "memory" && r.Beside == nil {
			t.Errorf("%s: %s has nothing beside it", r.Section, r.What)
		}
		if r.Section == "tunnel" && r.Compared == nil {
			t.Errorf("%s: %s is compared with nothing", r.Section, r.What)
		}
	}
	if diff := cmp.Diff(map[string]int{"push": 8, "scrape": 6, "contention": 2, "durability": 4, "memory": 8, "tunnel": 6, "spool": 7, "cluster": 7}, rows); diff != "" {
		t.Errorf("rows by section (-want +got):\n%s", diff)
	}
}

func TestOptions(t *testing.T) {
	tests := []struct {
		args []string
		want string // in the error
	}{
		{[]string{"--only=push,nothing"}, `no section "nothing"`},
		{[]string{"--rounds=-1"}, "--rounds is -1"},
		{[]string{"push"}, `unexpected argument "push"`},
		{[]string{"--bin.dir=" + filepath.Join(t.TempDir(), "missing")}, "looking for the programs"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		if err := run(t.Context(), tt.args, &out, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("run(%q) = %v, want %q in it", tt.args, err, tt.want)
		}
	}
}

func TestInterleave(t *testing.T) {
	var order []string
	next := 0.0
	measure := func(name string) arm {
		return arm{name, func(context.Context) (float64, error) {
			order = append(order, name)
			next++
			return next, nil
		}}
	}
	got, err := interleave(t.Context(), 2, []arm{measure("a"), measure("b")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "a", "a", "b", "b", "a"}, order); diff != "" {
		t.Errorf("order, the round that does not count included (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]samples{"a": {3, 6}, "b": {4, 5}}, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}

	broken := errors.New("broken")
	_, err = interleave(t.Context(), 1, []arm{{"a", func(context.Context) (float64, error) { return 0, broken }}})
	if !errors.Is(err, broken) {
		t.Errorf("interleave of an arm that fails = %v, want its error", err)
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		of   samples
		want spread
	}{
		{samples{3, 1, 2}, spread{Median: 2, Low: 1, High: 3}},
		{samples{4, 1, 2, 3}, spread{Median: 2.5, Low: 1, High: 4}},
		{samples{7}, spread{Median: 7, Low: 7, High: 7}},
		{nil, spread{}},
	} {
		if got := tt.of.spread(); got != tt.want {
			t.Errorf("%v.spread() = %+v, want %+v", tt.of, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	ours, theirs := samples{10, 12, 14}, samples{5, 4, 7}
	tests := []struct {
		name    string
		row     row
		want    bool
		columns string // of the table, from the comparison on
	}{
		{"a figure below its maximum", newRow("x", "ms", ours).limited(limit{Bound: 12, Of: "relay"}), true, "|  | ≤ 12 ms | met |"},
		{"a figure above its maximum", newRow("x", "ms", ours).limited(limit{Bound: 11, Of: "relay"}), false, "|  | ≤ 11 ms | **not met** |"},
		{"a figure below its minimum", newRow("x", "ms", ours).limited(limit{Bound: 13, Of: "relay", Least: true}), false, "|  | ≥ 13 ms | **not met** |"},
		{
			"a ratio", newRow("x", "ms", ours).times(ours, "that", theirs).limited(limit{Bound: 2, Of: "compared"}), true,
			"| **2** (2–3) times | ≤ 2 times | met |",
		},
		{
			"a difference", newRow("x", "ms", ours).more(ours, "that", theirs).limited(limit{Bound: 6, Of: "compared"}), false,
			"| **7** (5–8) ms more | ≤ 6 ms more | **not met** |",
		},
		{
			"the other bound", newRow("x", "ms", ours).times(ours, "that", theirs).limited(limit{Bound: 1, Of: "compared", OrAbsolute: 25}), true,
			"| **2** (2–3) times | ≤ 1 times or ≤ 25 ms | met |",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &report{}
			r.add("s", []row{tt.row})
			if got := *r.Rows[0].Met; got != tt.want {
				t.Errorf("Met = %t, want %t", got, tt.want)
			}
			if page := r.markdown(); !strings.Contains(page, tt.columns) {
				t.Errorf("no %q in\n%s", tt.columns, page)
			}
		})
	}
}

// TestBodies: what is pushed has the size that the figures are divided by, and its series are those that were asked for.
func TestBodies(t *testing.T) {
	series := func(body []byte) map[string]int {
		found := map[string]int{}
		for line := range strings.Lines(string(body)) {
			if !strings.HasPrefix(line, "#") {
				found[line[:strings.LastIndexByte(line, ' ')]]++
			}
		}
		return found
	}
	for _, s := range []shape{{lines: 10}, {lines: 50}, {lines: 100}, {lines: 100, unique: true}} {
		first, second := s.body(0, 1), s.body(1, 1)
		parser := expfmt.NewTextParser(model.LegacyValidation)
		if _, err := parser.TextToMetricFamilies(bytes.NewReader(first)); err != nil {
			t.Errorf("%v: %v", s, err)
		}
		if got := len(series(first)); got != s.lines {
			t.Errorf("%v: %d series, want %d", s, got, s.lines)
		}
		same := cmp.Equal(series(first), series(second))
		if same == s.unique {
			t.Errorf("%v: two groups with the same series: %t", s, same)
		}
		if bytes.Equal(first, s.body(0, 2)) {
			t.Errorf("%v: another salt gives the same values", s)
		}
		protobuf, err := toProtobuf(first)
		if err != nil || len(protobuf) == 0 {
			t.Errorf("%v as protobuf: %d bytes, %v", s, len(protobuf), err)
		}
	}
	if got := len(pageOfSize(12345)); got != 12345 {
		t.Errorf("pageOfSize(12345) has %d bytes", got)
	}
}

func TestLineCounter(t *testing.T) {
	text := "# HELP worker_a x\nworker_a 1\nother 2\nworker_b{x=\"worker_\"} 3\n"
	for cut := 1; cut <= len(text); cut++ {
		var c lineCounter
		for rest := text; rest != ""; {
			n := min(cut, len(rest))
			fmt.Fprint(&c, rest[:n])
			rest = rest[n:]
		}
		if c.lines != 2 {
			t.Fatalf("in pieces of %d bytes: %d lines, want 2", cut, c.lines)
		}
	}
}

// TestPush: every request is sent once, whatever the number of connections, and a refusal is an error.
func TestPush(t *testing.T) {
	seen := make(chan string, 100)
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.URL.Path
		if r.URL.Path == "/refused" {
			http.Error(w, "not this one", http.StatusBadRequest)
		}
	}))
	defer gateway.Close()
	address := gateway.Listener.Addr().String()
	requests := func(i int, scratch []byte) []byte {
		return appendPut(scratch, address, fmt.Sprintf("/%d", i), textType, []byte("a 1\n"))
	}
	p, err := push(t.Context(), address, requests, 4, 20)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.latencies) != 20 || p.latencies[0] <= 0 || p.wall <= 0 || p.perSecond() <= 0 || p.p99() <= 0 {
		t.Errorf("push = %+v", p)
	}
	paths := map[string]bool{}
	for range 20 {
		paths[<-seen] = true
	}
	if len(paths) != 20 || len(seen) != 0 {
		t.Errorf("%d different requests of 20 arrived, and %d more", len(paths), len(seen))
	}
	_, err = push(t.Context(), address, prepared([][]byte{appendPut(nil, address, "/refused", textType, nil)}), 1, 1)
	if err == nil || !strings.Contains(err.Error(), "not this one") {
		t.Errorf("a refused push = %v, want the reason", err)
	}
}

// TestProgramEnds: a program that dies is reported with what it said, and none is waited for.
func TestProgramEnds(t *testing.T) {
	l := &lab{dir: t.TempDir()}
	p, err := startProgram(l.dir, "short", "", "sh", "-c", "echo its last words; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	l.started = append(l.started, p)
	start := time.Now()
	if err := p.until(t.Context(), func(context.Context) error { return errors.New("not ready") }); err == nil || !strings.Contains(err.Error(), "short ended") {
		t.Errorf("waiting for a program that ended = %v", err)
	}
	if waited := time.Since(start); waited > 30*time.Second {
		t.Errorf("noticed after %v", waited)
	}
	var out bytes.Buffer
	if l.printLogs(&out); !strings.Contains(out.String(), "its last words") {
		t.Errorf("printLogs = %q", out.String())
	}
	if err := l.close(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("close = %v, want how the program ended", err)
	}
}
