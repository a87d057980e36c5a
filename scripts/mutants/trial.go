package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A trial tries mutants on a module.
type trial struct {
	root, dir string // of the module, and for files of its own
	timeout   time.Duration
	out       io.Writer
}

// What became of a mutant.
const (
	caught   = "caught"
	survived = "SURVIVED"
	faulty   = "FAULTY" // the table is wrong: it shows nothing
)

// A verdict is what became of one mutant.
type verdict struct {
	*mutant

	is   string
	why  string // what the test said that noticed it, or what is wrong with the mutant
	took time.Duration
}

// run tries the mutants, one after the other. The error says how many were not caught.
func (t *trial) run(ctx context.Context, mutants []mutant) error {
	if err := t.runWithout(ctx, mutants); err != nil {
		return err
	}
	var verdicts []verdict
	missed := 0
	for i := range mutants {
		v, err := t.try(ctx, &mutants[i])
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%d/%d  %-4s %s: %s (%.0fs)\n      %s\n", i+1, len(mutants), v.rule, v.name, v.is, v.took.Seconds(), v.why)
		if v.is != caught {
			missed++
		}
		verdicts = append(verdicts, v)
	}
	if err := t.show(verdicts); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d mutants were not caught", missed, len(mutants))
	}
	return nil
}

// runWithout runs all tests that are named without any fault. Each must pass.
func (t *trial) runWithout(ctx context.Context, mutants []mutant) error {
	tests := map[string][]string{} // by package
	var packages []string
	for i := range mutants {
		pkg := mutants[i].packageOf()
		if tests[pkg] == nil {
			packages = append(packages, pkg)
		}
		for _, name := range mutants[i].tests() {
			if !slices.Contains(tests[pkg], name) {
				tests[pkg] = append(tests[pkg], name)
			}
		}
	}
	for _, pkg := range packages {
		r, err := t.goTest(ctx, pkg, tests[pkg], "")
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "without a fault: %s, %d tests (%.0fs)\n", pkg, len(r.passed), r.took.Seconds())
		for _, name := range tests[pkg] {
			if !slices.Contains(r.passed, name) {
				fmt.Fprint(t.out, r.output)
				return fmt.Errorf("%s of %s does not pass without a fault: skipped are %q", name, pkg, r.skipped)
			}
		}
	}
	return nil
}

// try puts a fault in, and runs the tests that must notice it.
func (t *trial) try(ctx context.Context, m *mutant) (v verdict, err error) {
	v = verdict{mutant: m, is: faulty}
	overlay, err := t.overlay(m)
	if err != nil {
		v.why = err.Error()
		return v, nil //nolint:nilerr // It is told in its place.
	}
	r, err := t.goTest(ctx, m.packageOf(), m.tests(), overlay)
	if err != nil {
		return v, err
	}
	v.took = r.took
	switch {
	case r.broken:
		v.why = "it does not build"
	case r.timedOut:
		v.why = fmt.Sprintf("the test is not over after %v", t.timeout)
	case r.panicked:
		v.why = "it panics"
	case len(r.failed) > 0:
		v.is, v.why = caught, fmt.Sprintf("%s: %s", strings.Join(r.failed, ", "), r.said)
		return v, nil
	case len(r.passed) > 0:
		v.is, v.why = survived, strings.Join(r.passed, ", ")+" noticed nothing"
		return v, nil
	default:
		v.why = "no test ran"
	}
	fmt.Fprint(t.out, r.output)
	return v, nil
}

// show prints a table of all that became of the mutants.
func (t *trial) show(verdicts []verdict) error {
	fmt.Fprintln(t.out)
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	count := map[string]int{}
	for _, v := range verdicts {
		count[v.is]++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\n", v.rule, v.name, v.is, v.packageOf(), v.by)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.out, "\n%d caught, %d survived, %d faulty\n", count[caught], count[survived], count[faulty])
	return err
}
