package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const head = `Third-party notices

relay-server and relay-agent are under the Apache License 2.0, see LICENSE. Linked into them is software of others, on one
platform or another; below is what that is, and the texts that go with it. 'make notices' writes this file.

`

// writeNotices lists the modules, then each text once, with those that have it.
func writeNotices(out io.Writer, modules []module) error {
	w := bufio.NewWriter(out)
	fmt.Fprint(w, head)
	var order []string
	whose := map[string][]string{}
	for _, m := range modules {
		name := strings.TrimSpace(m.path + " " + m.version)
		if m.path == standard {
			name = "Go, its runtime and standard library"
		}
		fmt.Fprintf(w, "%s: %s\n", name, strings.Join(m.ids(), ", "))
		for _, t := range m.texts {
			if whose[t.content] == nil {
				order = append(order, t.content)
			}
			whose[t.content] = append(whose[t.content], fmt.Sprintf("%s (%s)", name, t.name))
		}
	}
	for _, content := range order {
		fmt.Fprintf(w, "\n%s\n%s\n%s\n\n%s", strings.Repeat("=", 80), strings.Join(whose[content], "\n"), strings.Repeat("-", 80), content)
	}
	return w.Flush()
}
