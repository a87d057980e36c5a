package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzName   = regexp.MustCompile(`\bFuzz\w+`)
)

// TestFuzzTargetsAreListed: the list of what is parsed names every fuzz target of the module, and no other.
func TestFuzzTargetsAreListed(t *testing.T) {
	page, err := os.ReadFile(filepath.FromSlash("../../docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(page), "\n## What is parsed\n")
	if !found {
		t.Fatal("docs/security.md has no list of what is parsed")
	}
	listed := fuzzName.FindAllString(list, -1)
	var there []string
	err = filepath.WalkDir(filepath.FromSlash("../.."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range fuzzTarget.FindAllStringSubmatch(string(text), -1) {
			there = append(there, m[1])
			if !slices.Contains(listed, m[1]) {
				t.Errorf("the list of what is parsed lacks %s of %s", m[1], path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range listed {
		if !slices.Contains(there, name) {
			t.Errorf("the list of what is parsed names %s, which is not there", name)
		}
	}
}
