//go:build linux

package e2e_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pagesOf returns the files of Markdown in this repository, as paths from its root.
func pagesOf(t testing.TB) (pages []string) {
	t.Helper()
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, entry.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			page, err := filepath.Rel(repository, path)
			if err != nil {
				return err
			}
			pages = append(pages, page)
		}
		return nil
	})
	if err != nil || len(pages) < 40 {
		t.Fatalf("%d pages were found, %v", len(pages), err)
	}
	return pages
}

// repository is its root, from here.
const repository = "../.."

var (
	inlineCode = regexp.MustCompile("`[^`\n]*`")
	links      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// mentions are pages with an anchor in what is no Markdown: annotations of alerts, messages, comments.
	mentions = regexp.MustCompile(`\b(?:docs|deploy)/[\w./-]+\.md(#[\w-]+)?`)
)

// withoutCode is a page without its blocks and code spans, in which "](" is no link and "#" no heading.
func withoutCode(page string) string {
	var out strings.Builder
	open := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			open = !open
			continue
		}
		if !open {
			out.WriteString(line)
		}
	}
	return out.String()
}

// TestLinksOfTheDocumentation: every relative link in a page leads to a file that is there, and to a heading in it; so does every page that a message,
// an alert or a comment names.
func TestLinksOfTheDocumentation(t *testing.T) {
	t.Parallel()
	headings := map[string][]string{} // by path from the root
	pages := pagesOf(t)
	for _, page := range pages {
		headings[page] = headingsOf(withoutCode(readFile(t, filepath.Join(repository, page))))
		for i, h := range headings[page] {
			// Renderers number and shorten such headings each in a way of its own.
			if slices.Contains(headings[page][:i], h) || strings.Contains(h, "--") {
				t.Errorf("%s: two headings have the anchor #%s, or it has two dashes", page, h)
			}
		}
	}
	check := func(from, target string) {
		file, anchor, anchored := strings.Cut(target, "#")
		if _, err := os.Stat(filepath.Join(repository, file)); err != nil {
			t.Errorf("%s: there is no %s", from, file)
			return
		}
		if anchored && !slices.Contains(headings[file], anchor) {
			t.Errorf("%s: %s has no heading #%s", from, file, anchor)
		}
	}
	checked := 0
	for _, page := range pages {
		text := inlineCode.ReplaceAllString(withoutCode(readFile(t, filepath.Join(repository, page))), "")
		for _, link := range links.FindAllStringSubmatch(text, -1) {
			target, err := url.Parse(link[1])
			switch {
			case err != nil:
				t.Errorf("%s: %v", page, err)
				continue
			case target.IsAbs():
				continue
			case target.Path == "":
				check(page, page+"#"+target.Fragment)
			case target.Fragment == "":
				check(page, filepath.Join(filepath.Dir(page), target.Path))
			default:
				check(page, filepath.Join(filepath.Dir(page), target.Path)+"#"+target.Fragment)
			}
			checked++
		}
	}
	if checked < 300 {
		t.Errorf("only %d links were found", checked)
	}
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, entry.Name()):
			return filepath.SkipDir
		case !slices.Contains([]string{".go", ".yml", ".yaml", ".env", ".service", ".json", ".sh"}, filepath.Ext(path)):
			return nil
		}
		for _, mention := range mentions.FindAllString(readFile(t, path), -1) {
			check(path, mention)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
