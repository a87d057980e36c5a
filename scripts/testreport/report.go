package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// An event is one line of `go test -json`: see `go doc test2json`. A build event has an ImportPath and no Package.
type event struct {
	Action     string
	Package    string
	Test       string
	Output     string
	ImportPath string
	Elapsed    float64
}

// A report follows one run of `go test -json`. It is used by one goroutine.
type report struct {
	out io.Writer

	// output is what each test that has not ended yet has printed, by package and test; the test "" is the package's own.
	output map[string]map[string][]string
	counts map[string]*counts // by package, until the package ends
	total  counts
	events int
}

type counts struct{ passed, failed, skipped int }

func (c *counts) add(more *counts) {
	c.passed += more.passed
	c.failed += more.failed
	c.skipped += more.skipped
}

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[string]map[string][]string{}, counts: map[string]*counts{}}
}

// read takes events until the input ends. A line that is not an event (a tool that wrote to the same pipe) is printed.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
	}
}

func (r *report) line(line string) {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" {
		fmt.Fprint(r.out, line)
		return
	}
	r.events++
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Package == "":
	case e.Test != "":
		r.test(e)
	default:
		r.pkg(e)
	}
}

func (r *report) test(e event) {
	c := r.countsOf(e.Package)
	switch e.Action {
	case "output":
		r.keep(e)
	case "pass":
		c.passed++
		r.forget(e)
	case "skip":
		c.skipped++
		r.print(fmt.Sprintf("--- SKIP: %s %s", e.Package, e.Test), r.forget(e))
	case "fail":
		c.failed++
		r.print(fmt.Sprintf("--- FAIL: %s %s", e.Package, e.Test), r.forget(e))
	}
}

func (r *report) pkg(e event) {
	c := r.countsOf(e.Package)
	switch e.Action {
	case "output":
		r.keep(e)
		return
	case "pass":
		fmt.Fprintf(r.out, "ok    %s %.1fs (%s)\n", e.Package, e.Elapsed, c)
	case "skip":
		fmt.Fprintf(r.out, "?     %s (no tests)\n", e.Package)
	case "fail":
		if c.failed == 0 {
			c.failed = 1
		}
		// Tests that never ended (a panic, a timeout, os.Exit) and the package's own words say why.
		for _, test := range slices.Sorted(maps.Keys(r.output[e.Package])) {
			r.print(fmt.Sprintf("--- FAIL: %s %s", e.Package, test), r.output[e.Package][test])
		}
		fmt.Fprintf(r.out, "FAIL  %s %.1fs (%s)\n", e.Package, e.Elapsed, c)
	default:
		return
	}
	r.total.add(c)
	delete(r.output, e.Package)
	delete(r.counts, e.Package)
}

// finish prints the last line and says whether all is well.
func (r *report) finish() bool {
	for _, pkg := range slices.Sorted(maps.Keys(r.counts)) {
		// go test was killed before the package ended.
		c := r.counts[pkg]
		c.failed++
		fmt.Fprintf(r.out, "FAIL  %s did not end (%s)\n", pkg, c)
		r.total.add(c)
	}
	if r.events == 0 {
		fmt.Fprintln(r.out, "no test reported anything")
	}
	fmt.Fprintln(r.out, r.total)
	return r.total.failed == 0 && r.events > 0
}

func (r *report) countsOf(pkg string) *counts {
	c := r.counts[pkg]
	if c == nil {
		c = &counts{}
		r.counts[pkg] = c
	}
	return c
}

func (r *report) keep(e event) {
	if r.output[e.Package] == nil {
		r.output[e.Package] = map[string][]string{}
	}
	r.output[e.Package][e.Test] = append(r.output[e.Package][e.Test], e.Output)
}

// forget returns what a test that ended has printed, and drops it: a long run of passing tests must not pile up.
func (r *report) forget(e event) []string {
	printed := r.output[e.Package][e.Test]
	delete(r.output[e.Package], e.Test)
	return printed
}

// print shows a title and what was printed under it, without the runner's own marks.
func (r *report) print(title string, printed []string) {
	fmt.Fprintln(r.out, title)
	for _, line := range printed {
		if mark := strings.TrimSpace(line); strings.HasPrefix(mark, "=== ") || strings.HasPrefix(mark, "--- ") {
			continue
		}
		fmt.Fprint(r.out, line)
	}
}
