package commandline

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// writeManPage writes the man page of a program, in the macros of man(7). kingpin's own knows no characters that are special there, and puts
// the whole text of --version into its title.
func writeManPage(w io.Writer, app *kingpin.ApplicationModel, version string) {
	p := page{w}
	p.line(".TH %s 1 \"\" %s \"\"", quoted(strings.ToUpper(app.Name)), quoted(strings.TrimSpace(app.Name+" "+version)))
	p.line(".SH NAME")
	p.line("%s \\- %s", escaped(app.Name), escaped(strings.TrimSuffix(app.Help, ".")))
	p.line(".SH SYNOPSIS")
	p.line(".B %s", quoted(app.Name))
	p.line("[\\fIflags\\fR] [\\fIcommand\\fR [\\fIargs\\fR]]")
	p.line(".SH OPTIONS")
	p.flags(app.Flags)
	p.line(".SH COMMANDS")
	p.commands(app.Commands)
}

// page is a man page that is being written.
type page struct{ w io.Writer }

func (p page) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

func (p page) commands(all []*kingpin.CmdModel) {
	for _, c := range all {
		if c.Hidden {
			continue
		}
		p.line(".SS %s", quoted(summaryOf(c)))
		p.text(c.Help)
		p.flags(c.Flags)
		p.commands(c.Commands)
	}
}

// summaryOf returns a command with its arguments.
func summaryOf(c *kingpin.CmdModel) string {
	summary := []string{c.FullCommand}
	for _, arg := range c.Args {
		summary = append(summary, argText(arg))
	}
	if len(c.Commands) > 0 {
		summary = append(summary, "<command>")
	}
	return strings.Join(summary, " ")
}

func argText(arg *kingpin.ArgModel) string {
	text := arg.PlaceHolder
	if text == "" {
		text = "<" + arg.Name + ">"
	}
	if !arg.Required {
		text = "[" + text + "]"
	}
	return text
}

func (p page) flags(all []*kingpin.FlagModel) {
	for _, flag := range all {
		if flag.Hidden {
			continue
		}
		p.line(".TP\n.B %s", quoted(flagText(flag)))
		p.text(flag.HelpWithEnvar())
	}
}

// flagText returns a flag as it is typed, with its default or what stands for its value.
func flagText(flag *kingpin.FlagModel) string {
	name := "--" + flag.Name
	if isOnByDefault(flag) {
		name = "--[no-]" + flag.Name
	}
	if flag.Short != 0 {
		name = "-" + string(flag.Short) + ", " + name
	}
	if !flag.IsBoolFlag() {
		name += "=" + flag.FormatPlaceHolder()
	}
	return name
}

// exampleMark begins the lines of a paragraph of examples: what follows is typed.
const exampleMark = "Example: "

// text writes paragraphs. Examples stand as they are typed.
func (p page) text(help string) {
	for i, paragraph := range strings.Split(help, "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		if !strings.HasPrefix(paragraph, exampleMark) {
			p.line("%s", escaped(strings.ReplaceAll(paragraph, "\n", " ")))
			continue
		}
		p.line("Example:\n.PP\n.nf\n.RS 4")
		for line := range strings.Lines(paragraph) {
			p.line("%s", escaped(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), exampleMark)))
		}
		p.line(".RE\n.fi")
	}
}

// escaped returns what roff shows as the text. A minus stays the character that is typed.
func escaped(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\(rs`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString("\\(ga")
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '.' && i == 0:
			b.WriteString(`\&.`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// quoted returns one argument of a macro.
func quoted(text string) string {
	return `"` + strings.ReplaceAll(escaped(text), `"`, `\(dq`) + `"`
}
