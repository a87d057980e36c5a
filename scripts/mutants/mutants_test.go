package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// root is where the module is.
var root = filepath.Join("..", "..")

// without are the rules that have no mutant, and why.
var without = map[string]string{
	"C1":  "what is linked, and what is started, is nothing that a few lines decide",
	"C21": "only whole programs show it, which are too slow to be tried with every fault",
	"C22": "arithmetic",
}

// TestTable: each mutant can be put in, its tests are there, and each rule of several relays has one. So the table cannot rot, although nobody tries
// all of it with every change.
func TestTable(t *testing.T) {
	names, rules := map[string]bool{}, map[string]bool{}
	for _, m := range table() {
		if names[m.name] {
			t.Errorf("%s: two mutants have that name", m.name)
		}
		names[m.name], rules[m.rule] = true, true
		if _, err := m.source(root); err != nil {
			t.Errorf("%s %s: %v", m.rule, m.name, err)
		}
		if len(m.tests()) == 0 {
			t.Errorf("%s %s: nothing is to notice it", m.rule, m.name)
		}
		for _, test := range m.tests() {
			if !hasTest(t, m.packageOf(), test) {
				t.Errorf("%s %s: there is no %s in %s", m.rule, m.name, test, m.packageOf())
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (C\d+) \|`).FindAllStringSubmatch(string(text), -1) {
		rule := row[1]
		known[rule] = true
		if rules[rule] == (without[rule] != "") {
			t.Errorf("rule %s: it has a mutant: %v; the reason for none is %q", rule, rules[rule], without[rule])
		}
	}
	for rule := range rules {
		if !known[rule] {
			t.Errorf("there is no rule %s in docs/rules.md", rule)
		}
	}
	if len(known) == 0 {
		t.Error("docs/rules.md has no rules of several relays")
	}
}

// hasTest says whether the tests of a package have one of that name.
func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pkg), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && bytes.Contains(text, []byte("\nfunc "+name+"(t *testing.T) {\n"))
	})
}

func TestChoose(t *testing.T) {
	all := []mutant{{rule: "C1", name: "a clock"}, {rule: "C11", name: "another C1 thing"}, {rule: "C2", name: "a token"}}
	for only, want := range map[string]string{"": "a clock, another C1 thing, a token", "C1": "a clock", "C11,token": "another C1 thing, a token", "clock,C1": "a clock", "C3": "", ",": ""} {
		var names []string
		for _, m := range choose(all, only) {
			names = append(names, m.name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("--only=%s chooses %q, want %q", only, got, want)
		}
	}
}

// module makes one with a function and its tests.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":   "module m\n\ngo 1.26\n",
		"p/two.go": "package p\n\n// Two is two.\nfunc Two() int {\n\tn := 1\n\tn++\n\treturn n\n}\n",
		"p/two_test.go": `package p

import "testing"

func TestTwo(t *testing.T) {
	t.Run("sub", func(t *testing.T) {
		if n := Two(); n != 2 {
			t.Errorf("it is %d", n)
		}
	})
}

func TestNothing(t *testing.T) {}

func TestSkipped(t *testing.T) { t.Skip("not here") }
`,
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTrial: what a test notices is caught, what it does not survives, and what shows nothing is a fault of the table. The tree is what it was.
func TestTrial(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	t.Setenv("GOFLAGS", "")
	dir := module(t)
	before, err := os.ReadFile(filepath.Join(dir, "p", "two.go"))
	if err != nil {
		t.Fatal(err)
	}
	const text, file = "\tn++\n", "p/two.go"
	mutants := []mutant{
		{rule: "C1", name: "one", file: file, text: text, by: "TestTwo"},
		{rule: "C1", name: "not looked at", file: file, text: text, by: "TestNothing"},
		{rule: "C1", name: "another test", file: file, text: text, pkg: "p", by: "TestNothing TestTwo"},
		{rule: "C2", name: "no type", file: file, text: text, instead: "\tn = \"\"\n", by: "TestTwo"},
		{rule: "C2", name: "no Go", file: file, text: text, instead: "\t}\n", by: "TestTwo"},
		{rule: "C2", name: "not there", file: file, text: "m++", by: "TestTwo"},
		{rule: "C2", name: "there twice", file: file, text: "Two", instead: "x", by: "TestTwo"},
		{rule: "C2", name: "the same", file: file, text: text, instead: text, by: "TestTwo"},
		{rule: "C2", name: "panics", file: file, text: text, instead: "\tpanic(n)\n", by: "TestTwo"},
		{rule: "C3", name: "hangs", file: file, text: text, instead: "\tfor {\n\t}\n", by: "TestTwo"},
	}
	var out strings.Builder
	trial := &trial{root: dir, dir: t.TempDir(), timeout: 3 * time.Second, out: &out}
	err = trial.run(t.Context(), mutants)
	if err == nil || err.Error() != "8 of 10 mutants were not caught" {
		t.Errorf("run = %v", err)
	}
	_, shown, _ := strings.Cut(out.String(), "\n\nC1") // the table
	var got []string
	for line := range strings.Lines("C1" + shown) {
		got = append(got, regexp.MustCompile(` {2,}`).ReplaceAllString(strings.TrimSpace(line), " | "))
	}
	want := []string{
		"C1 | one | caught | p TestTwo",
		"C1 | not looked at | SURVIVED | p TestNothing",
		"C1 | another test | caught | p TestNothing TestTwo",
		"C2 | no type | FAULTY | p TestTwo",
		"C2 | no Go | FAULTY | p TestTwo",
		"C2 | not there | FAULTY | p TestTwo",
		"C2 | there twice | FAULTY | p TestTwo",
		"C2 | the same | FAULTY | p TestTwo",
		"C2 | panics | FAULTY | p TestTwo",
		"C3 | hangs | FAULTY | p TestTwo",
		"",
		"2 caught, 1 survived, 7 faulty",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table (-want +got):\n%s\nall of it:\n%s", diff, out.String())
	}
	for _, words := range []string{"TestTwo: two_test.go:8: it is 1", "TestNothing noticed nothing", "it does not build", "it panics", "is not over after 3s"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("nothing says %q:\n%s", words, out.String())
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "p", "two.go")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the tree was changed: %s, %v", after, err)
	}
}

// TestWithoutAFault: tests that do not pass as they are, or do not run, show nothing of any mutant.
func TestWithoutAFault(t *testing.T) {
	if testing.Short() {
		t.Skip("starts other programs")
	}
	t.Setenv("GOFLAGS", "")
	dir := module(t)
	for _, test := range []string{"TestSkipped", "TestMissing"} {
		var out strings.Builder
		trial := &trial{root: dir, dir: t.TempDir(), timeout: time.Minute, out: &out}
		err := trial.run(t.Context(), []mutant{{rule: "C1", name: "one", file: "p/two.go", text: "n++", by: "TestTwo " + test}})
		if want := fmt.Sprintf("%s of p does not pass without a fault", test); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("run = %v, want %q\n%s", err, want, out.String())
		}
	}
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--only=nothing", `no mutant is of "nothing"`},
		{"C8", `unexpected argument "C8"`},
		{"--timeout=x", "invalid value"},
	} {
		var out strings.Builder
		if err := run(context.Background(), strings.Fields(tt.args), &out, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("run(%q) = %v, want %q in it", tt.args, err, tt.want)
		}
	}
}
