//go:build linux

package document

import (
	"regexp"
	"strings"
)

// HeadingsOf returns the anchors of a page's headings, as GitHub makes them.
func HeadingsOf(page string) []string {
	dropped := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	var anchors []string
	for line := range strings.Lines(page) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			anchors = append(anchors, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-"))
		}
	}
	return anchors
}
