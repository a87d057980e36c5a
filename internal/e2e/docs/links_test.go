//go:build linux

package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/document"
	"pushrelay/internal/e2e/program"
)

// pagesOf returns the files of Markdown in this repository, as paths from its root.
func pagesOf(t testing.TB) (pages []string) {
	t.Helper()
	err := filepath.WalkDir(document.Repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, entry.Name()):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			page, err := filepath.Rel(document.Repository, path)
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
		headings[page] = document.HeadingsOf(withoutCode(client.ReadFile(t, filepath.Join(document.Repository, page))))
		for i, h := range headings[page] {
			// Renderers number and shorten such headings each in a way of its own.
			if slices.Contains(headings[page][:i], h) || strings.Contains(h, "--") {
				t.Errorf("%s: two headings have the anchor #%s, or it has two dashes", page, h)
			}
		}
	}
	check := func(from, target string) {
		file, anchor, anchored := strings.Cut(target, "#")
		if _, err := os.Stat(filepath.Join(document.Repository, file)); err != nil {
			t.Errorf("%s: there is no %s", from, file)
			return
		}
		if anchored && !slices.Contains(headings[file], anchor) {
			t.Errorf("%s: %s has no heading #%s", from, file, anchor)
		}
	}
	checked := 0
	for _, page := range pages {
		text := inlineCode.ReplaceAllString(withoutCode(client.ReadFile(t, filepath.Join(document.Repository, page))), "")
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
	index := client.ReadFile(t, filepath.Join(document.Repository, "docs/README.md"))
	for _, page := range pages {
		name, isDocument := strings.CutPrefix(page, "docs/")
		if isDocument && name != "README.md" && (!strings.HasPrefix(name, "decisions/") || name == "decisions/README.md") && !strings.Contains(index, "]("+name+")") {
			t.Errorf("docs/README.md, the index by purpose, has no link to %s", page)
		}
	}
	if checked < 300 {
		t.Errorf("only %d links were found", checked)
	}
	err := filepath.WalkDir(document.Repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "node_modules"}, entry.Name()):
			return filepath.SkipDir
		case !slices.Contains([]string{".go", ".yml", ".yaml", ".env", ".service", ".json", ".sh"}, filepath.Ext(path)):
			return nil
		}
		for _, mention := range mentions.FindAllString(client.ReadFile(t, path), -1) {
			check(path, mention)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSiteOfTheDocumentation: the site has every page, in which each relative link leads to a file and to what has that name in it.
func TestSiteOfTheDocumentation(t *testing.T) {
	t.Parallel()
	program.RequireProgram(t, "/usr/bin/mkdocs", "mkdocs")
	site := t.TempDir()
	program.MustOutput(t, program.Command{Path: "/bin/bash", Args: []string{"scripts/docs.sh", site}, Dir: document.Repository})
	names := regexp.MustCompile(` (?:id|name)="([^"]+)"`)
	targets := regexp.MustCompile(` (?:href|src)="([^"]+)"`)
	content := map[string]string{} // of pages, by path
	for _, page := range pagesOf(t) {
		path := strings.TrimSuffix(page, ".md") + ".html"
		if strings.HasSuffix(page, "README.md") {
			path = filepath.Join(filepath.Dir(page), "index.html")
		}
		if strings.Contains(page, "testdata/") {
			continue
		}
		content[path] = client.ReadFile(t, filepath.Join(site, path))
	}
	checked := 0
	for path, text := range content {
		_, text, _ = strings.Cut(text, `role="main"`) // what is around it is the theme's
		if strings.Contains(text, "```") || regexp.MustCompile(`(?m)^<p>(?:[^<]|<[^/p])*\n- `).MatchString(text) {
			t.Errorf("%s has a block or a list that is not shown as one: it needs an empty line before it", path)
		}
		for _, m := range targets.FindAllStringSubmatch(text, -1) {
			target, err := url.Parse(m[1])
			if err != nil || target.IsAbs() {
				continue
			}
			file := path
			if target.Path != "" {
				file = filepath.Join(filepath.Dir(path), target.Path)
			}
			if info, err := os.Stat(filepath.Join(site, file)); err != nil || info.IsDir() {
				t.Errorf("%s: there is no page %s", path, m[1])
				continue
			}
			if target.Fragment != "" && !slices.ContainsFunc(names.FindAllStringSubmatch(client.ReadFile(t, filepath.Join(site, file)), -1), func(name []string) bool { return name[1] == target.Fragment }) {
				t.Errorf("%s: there is no %s", path, m[1])
			}
			checked++
		}
	}
	if checked < 1000 {
		t.Errorf("only %d links were found", checked)
	}
}
