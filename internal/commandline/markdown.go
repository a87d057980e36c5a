package commandline

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// writeMarkdown writes the page of a program in the documentation: every command and flag that its help shows, and nothing that depends on the machine
// or the version.
func writeMarkdown(w io.Writer, app *kingpin.ApplicationModel) {
	p := markdown{w}
	p.line("# %s\n\n%s\n\nThis page is what `%s --help` says. Flags by what they are for: [Flags by topic](flags.md).\n", app.Name, inMarkdown(app.Help), app.Name)
	p.line("## Flags of all commands\n")
	p.flags(app.Flags)
	p.commands(app.Name, app.Commands)
}

// markdown is a page that is being written.
type markdown struct{ w io.Writer }

func (p markdown) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p markdown) commands(program string, all []*kingpin.CmdModel) {
	for _, c := range all {
		if c.Hidden {
			continue
		}
		p.line("\n## %s\n\n`%s %s`\n", c.FullCommand, program, summaryOf(c))
		for i, paragraph := range strings.Split(c.Help, "\n\n") {
			if i > 0 {
				p.line("")
			}
			if example, isExample := strings.CutPrefix(paragraph, exampleMark); isExample {
				p.line("```sh\n%s\n```", strings.ReplaceAll(example, "\n"+exampleMark, "\n"))
				continue
			}
			p.line("%s", inMarkdown(strings.ReplaceAll(paragraph, "\n", " ")))
		}
		if len(c.Flags) > 0 {
			p.line("")
		}
		p.flags(c.Flags)
		p.commands(program, c.Commands)
	}
}

func (p markdown) flags(all []*kingpin.FlagModel) {
	begun := false
	for _, flag := range all {
		if flag.Hidden {
			continue
		}
		if !begun {
			p.line("| flag | |\n|---|---|")
			begun = true
		}
		p.line("| `%s` | %s |", strings.ReplaceAll(flagText(flag), "|", `\|`), strings.ReplaceAll(inMarkdown(flag.HelpWithEnvar()), "|", `\|`))
	}
}

// inMarkdown returns what shows as the text.
func inMarkdown(text string) string {
	return strings.NewReplacer("*", `\*`, "<", "&lt;", "\n", " ").Replace(text)
}
