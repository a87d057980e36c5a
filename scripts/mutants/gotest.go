package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A testRun is how a run of tests of one package went.
type testRun struct {
	passed, failed, skipped []string // by name, without subtests
	// said is the first that a failed test had to say, on one line.
	said string
	// broken says that the package, or its tests, could not be built; panicked and timedOut that the run ended in the midst of a test.
	broken, panicked, timedOut bool
	output                     string // all of it
	took                       time.Duration
}

// An event is one line of `go test -json`: see `go doc test2json`.
type event struct {
	Action, Test, Output, FailedBuild string
}

// goTest runs tests of a package. An overlay is a file that tells the compiler of other files; empty for none.
func (t *trial) goTest(ctx context.Context, pkg string, tests []string, overlay string) (*testRun, error) {
	// Not cached, and without what debuggers read: linking takes longer than most of the tests.
	args := []string{"test", "-json", "-count=1", "-vet=off", "-ldflags=-s -w", "-timeout=" + t.timeout.String(), "-run=^(" + strings.Join(tests, "|") + ")$"}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = t.root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // which it hands on
	cmd.WaitDelay = killGrace
	began := time.Now()
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return nil, fmt.Errorf("running the tests of %s: %w", pkg, err)
	}
	r := readRun(output)
	r.took = time.Since(began)
	return r, nil
}

// killGrace is how long tests may take to end that are not wanted any more.
const killGrace = 10 * time.Second

// words is what a test says when it fails: the place, and what is wrong.
var words = regexp.MustCompile(`^\s*\w+_test\.go:\d+: `)

// readRun reads the events of one package. What is none is the go command's own.
func readRun(output []byte) *testRun {
	r := &testRun{}
	var text strings.Builder
	said := map[string]string{} // by test or subtest
	for line := range bytes.Lines(output) {
		var e event
		if json.Unmarshal(line, &e) != nil || e.Action == "" {
			text.Write(line)
			continue
		}
		text.WriteString(e.Output)
		r.broken = r.broken || e.FailedBuild != "" || e.Action == "build-fail"
		r.timedOut = r.timedOut || strings.HasPrefix(e.Output, "panic: test timed out")
		r.panicked = r.panicked || strings.HasPrefix(e.Output, "panic: ") || strings.HasPrefix(e.Output, "fatal error: ")
		if said[e.Test] == "" && words.MatchString(e.Output) {
			said[e.Test] = strings.TrimSpace(e.Output)
		}
		if e.Action == "fail" && r.said == "" {
			r.said = said[e.Test]
		}
		if e.Test == "" || strings.Contains(e.Test, "/") {
			continue
		}
		switch e.Action {
		case "pass":
			r.passed = append(r.passed, e.Test)
		case "fail":
			r.failed = append(r.failed, e.Test)
		case "skip":
			r.skipped = append(r.skipped, e.Test)
		}
	}
	r.output = text.String()
	return r
}

// overlay writes what tells the compiler of a mutant, and returns the file.
func (t *trial) overlay(m *mutant) (file string, err error) {
	source, err := m.source(t.root)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(t.dir, filepath.Base(m.file)) // whose name may say for which system it is
	if err := os.WriteFile(changed, source, 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(t.root, filepath.FromSlash(m.file)): changed}})
	if err != nil {
		return "", err
	}
	file = filepath.Join(t.dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}
