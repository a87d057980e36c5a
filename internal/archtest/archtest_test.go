package archtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A listed package is what `go list` says about it, reduced to what the rules need.
type listed struct {
	ImportPath string
	Name       string
	Imports    []string // without those of its tests

	TestImports, XTestImports []string

	Deps    []string // transitive
	GoFiles []string
	Module  *struct{ Path, Dir string }
}

// path is the import path below the module's root.
func (p listed) path() string { return strings.TrimPrefix(p.ImportPath, p.Module.Path+"/") }

// list asks for every package of the module as it is built for goos: a rule may not be broken on Windows only.
func list(t *testing.T, goos string) []listed {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Name,Imports,TestImports,XTestImports,Deps,GoFiles,Module", "./...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v\n%s", err, stderr.Bytes())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list found no package")
	}
	return packages
}

func TestImports(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			packages := list(t, goos)
			for _, p := range packages {
				checkPlace(t, p)
				checkWholePrograms(t, p)
				checkLayers(t, p)
				for _, b := range bans {
					checkBan(t, p, b)
				}
			}
			checkTable(t, packages)
		})
	}
}

func checkPlace(t *testing.T, p listed) {
	t.Helper()
	if _, ok := table[p.path()]; !ok {
		t.Errorf("%s has no place: add it to the table in internal/archtest/table_test.go and to docs/architecture.md", p.path())
	}
}

func checkLayers(t *testing.T, p listed) {
	t.Helper()
	from, ok := table[p.path()]
	if !ok {
		return
	}
	for _, imported := range p.Imports {
		name, ok := strings.CutPrefix(imported, p.Module.Path+"/")
		if !ok {
			continue
		}
		to, ok := table[name]
		if !ok {
			continue // reported where that package is looked at
		}
		if arrows[p.path()][name] != "" {
			continue
		}
		switch {
		case from.column == outside:
		case to.column == outside:
			t.Errorf("%s imports %s, which is for tests and tools only", p.path(), name)
		case to.layer >= from.layer:
			t.Errorf("%s (layer %d) imports %s (layer %d): imports go to a lower layer only", p.path(), from.layer, name, to.layer)
		case to.column != shared && to.column != from.column:
			t.Errorf("%s (%s) imports %s (%s): relay and agent meet only in what is shared", p.path(), from.column, name, to.column)
		}
	}
}

// checkWholePrograms holds what the tests of whole programs promise: they know nothing of the product.
func checkWholePrograms(t *testing.T, p listed) {
	t.Helper()
	if p.path() != "internal/e2e" && !strings.HasPrefix(p.path(), "internal/e2e/") {
		return
	}
	for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		name, ok := strings.CutPrefix(imported, p.Module.Path+"/")
		if ok && table[name].column != outside {
			t.Errorf("%s imports %s: tests of whole programs know these by their flags, routes and files only", p.path(), name)
		}
	}
}

func checkBan(t *testing.T, p listed, b ban) {
	t.Helper()
	place, known := table[p.path()]
	if !known || place.column == outside || slices.Contains(b.from, p.path()) == b.allExcept {
		return
	}
	imports := p.Imports
	if b.reach == transitive {
		imports = p.Deps
	}
	for _, imported := range imports {
		name := strings.TrimPrefix(imported, p.Module.Path+"/")
		for _, banned := range b.to {
			// A package of ours stands for itself: internal/agent is not internal/agents, and tunnelclient not tunnel.
			ours := strings.HasPrefix(banned, "internal/")
			if name == banned || !ours && strings.HasPrefix(name, banned+"/") {
				t.Errorf("%s reaches %s: %s", p.path(), name, b.why)
			}
		}
	}
}

// checkTable finds what the table and the bans name although it is not there, or no longer.
func checkTable(t *testing.T, packages []listed) {
	t.Helper()
	exists := map[string]bool{}
	for _, p := range packages {
		exists[p.path()] = true
	}
	for name := range table {
		if !exists[name] {
			t.Errorf("the table names %s, which does not exist", name)
		}
	}
	for _, b := range bans {
		for _, name := range slices.Concat(b.from, b.to) {
			ours := strings.HasPrefix(name, "internal/") || strings.HasPrefix(name, "cmd/")
			if _, known := table[name]; ours && !known {
				t.Errorf("a ban names %s, which the table does not have", name)
			}
		}
	}
}

// TestArchitecturePage: a page that forgets a package, or keeps one that is gone, is worse than none.
func TestArchitecturePage(t *testing.T) {
	page, err := os.ReadFile(filepath.FromSlash("../../docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, word := range strings.FieldsFunc(string(page), func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/.", r)
	}) {
		words[strings.Trim(word, "/.")] = true
	}
	for name := range table {
		short := strings.TrimPrefix(name, "internal/")
		if !words[name] && !words[short] {
			t.Errorf("docs/architecture.md does not name %s", short)
		}
	}
}
