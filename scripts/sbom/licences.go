package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// permitted are the licences that let everybody pass a program on that has such a part, whatever its own licence, if the text goes
// with it. Another one is for people to judge, who then add it here or do without the part.
var permitted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// A text is a file with a licence, or with what a licence wants to be passed on beside it.
type text struct {
	name    string   // of the file
	content string   // without spaces at the ends of its lines, and one line feed at its end
	ids     []string // what licences it holds, as SPDX calls them; none for a notice
}

var (
	isLicence = regexp.MustCompile(`(?i)^(licen[cs]e|copying)([.-].*)?$`)
	isNotice  = regexp.MustCompile(`(?i)^(notice|patents)([.-].*)?$`)
)

// textsIn reads the texts of a directory.
func textsIn(dir string) ([]text, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var texts []text
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || strings.HasSuffix(name, ".go") || !isLicence.MatchString(name) && !isNotice.MatchString(name) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		t := text{name: name, content: tidy(string(content))}
		if isLicence.MatchString(name) {
			if t.ids, err = identify(content); err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
			}
		}
		texts = append(texts, t)
	}
	return texts, nil
}

func tidy(content string) string {
	lines := strings.Split(strings.ReplaceAll(content, "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n") + "\n"
}

// known is how much of a text has to be of known licences, in percent: the rest are names of people and years.
const known = 75

// identify returns the licences that a text consists of.
func identify(content []byte) ([]string, error) {
	found := licensecheck.Scan(content)
	var ids []string
	for _, match := range found.Match {
		if match.IsURL {
			continue // it tells where a licence is, mostly the one that follows
		}
		if !slices.Contains(permitted, match.ID) {
			return nil, fmt.Errorf("it holds the licence %s, which is none of %s: may the programs be passed on with it? Then add it to permitted in scripts/sbom", match.ID, strings.Join(permitted, ", "))
		}
		ids = append(ids, match.ID)
	}
	if found.Percent < known || len(ids) == 0 {
		return nil, fmt.Errorf("only %.0f %% of it is of a known licence (%s): read it, and teach scripts/sbom what it is", found.Percent, strings.Join(ids, ", "))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
