package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	anyTest   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	namedTest = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
)

// TestNamedTestsExist: a page that says which test shows something names one that is there.
func TestNamedTestsExist(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(filepath.FromSlash("../.."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range anyTest.FindAllStringSubmatch(string(text), -1) {
			there[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rules.md", "hazards.md", "security.md", "architecture.md"} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		named := namedTest.FindAllString(string(page), -1)
		if len(named) == 0 {
			t.Errorf("docs/%s names no test", name)
		}
		for _, test := range named {
			if !there[test] {
				t.Errorf("docs/%s names %s, which is not there", name, test)
			}
		}
	}
}
