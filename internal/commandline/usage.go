package commandline

import (
	"strings"
	"text/template"

	"github.com/alecthomas/kingpin/v2"
)

// usageTemplate is the help of one command, with its arguments and flags and those of all; without a command it is that of all of them, since the flags
// of what happens then are those of a command, and belong on the first page.
const usageTemplate = `{{with .Context.SelectedCommand -}}
usage: {{$.App.Name}} {{Synopsis .}}

{{Paragraphs $.Width 0 .Help}}
{{else -}}
usage: {{.App.Name}}{{with .App.FlagSummary}} {{.}}{{end}} <command> [<args> ...]

{{Paragraphs .Width 0 .App.Help}}
{{end -}}
{{with .Context.Flags -}}
Flags:
{{.|FlagsToTwoColumns|FormatTwoColumns}}
{{end -}}
{{with .Context.Args -}}
Args:
{{.|ArgsToTwoColumns|FormatTwoColumns}}
{{end -}}
{{with .Context.SelectedCommand -}}
{{with .Commands -}}
Subcommands, each with --help of its own:
{{.|Commands|FormatTwoColumns}}
{{end -}}
{{else -}}
Commands:
{{range .App.FlattenedCommands -}}
{{if not .Hidden}}  {{Synopsis .}}
{{Paragraphs $.Width 4 .Help}}
{{with .Flags|FlagsToTwoColumns}}{{FormatTwoColumnsWithIndent . 4 2}}{{end}}
{{end -}}
{{end -}}
{{end -}}
`

// SetUsage has --help say of a command what there is to know of that command, and nothing else.
func SetUsage(app *kingpin.Application) {
	app.UsageTemplate(usageTemplate)
	app.UsageFuncs(template.FuncMap{"Synopsis": synopsisOf, "Commands": commandRows, "Paragraphs": paragraphs})
}

// synopsisOf returns a command as it is typed.
func synopsisOf(c *kingpin.CmdModel) string {
	words := []string{c.FullCommand}
	if flags := c.FlagSummary(); flags != "" {
		words = append(words, flags)
	}
	for _, arg := range c.Args {
		words = append(words, argText(arg))
	}
	if len(c.Commands) > 0 {
		words = append(words, "<command> [<args> ...]")
	}
	return strings.Join(words, " ")
}

// commandRows are the commands of a group, with the first sentence of their help.
func commandRows(all []*kingpin.CmdModel) [][2]string {
	var rows [][2]string
	for _, c := range all {
		if c.Hidden {
			continue
		}
		text, _, _ := strings.Cut(c.Help, "\n\n")
		if sentence, _, more := strings.Cut(text, ". "); more {
			text = sentence + "."
		}
		rows = append(rows, [2]string{c.Name, text})
	}
	return rows
}

// paragraphs wraps a text. Examples stay whole, so that they can be copied.
func paragraphs(width, indent int, text string) string {
	margin := strings.Repeat(" ", indent)
	var lines []string
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			lines = append(lines, "")
		}
		if strings.HasPrefix(paragraph, exampleMark) {
			for line := range strings.SplitSeq(paragraph, "\n") {
				lines = append(lines, margin+line)
			}
			continue
		}
		line := margin
		for word := range strings.FieldsSeq(paragraph) {
			if line != margin && len(line)+len(" ")+len(word) > width {
				lines, line = append(lines, line), margin
			}
			if line != margin {
				line += " "
			}
			line += word
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n") + "\n"
}
