//go:build linux

package command_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pushrelay/internal/e2e/program"
)

// completing is a shell that completes as its user would see it: the script of the program is sourced, and asked by the shell's own means.
const completing = `
set -eu
PATH="%s:$PATH"
eval "$(%[2]s --completion-script-bash)"
COMP_WORDS=(%[2]s "$@")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
COMPREPLY=()
"$(complete -p %[2]s | sed -n 's/.* -F \([^ ]*\) .*/\1/p')"
printf '%%s\n' "${COMPREPLY[@]}"
`

// TestCompletion: bash and zsh take the scripts, and complete commands, flags and values, however far a line is.
func TestCompletion(t *testing.T) {
	t.Parallel()
	bash, zsh := program.RequireProgram(t, "/usr/bin/bash", "bash"), program.RequireProgram(t, "/usr/bin/zsh", "zsh")
	for name, path := range program.ProgramsForPeople() {
		for shell, at := range map[string]string{"bash": bash, "zsh": zsh} {
			script := program.MustOutput(t, program.Command{Path: path, Args: []string{"--completion-script-" + shell}})
			if r := program.OutputWithInput(t, program.Command{Path: at, Args: []string{"-n"}}, script); r.Code != 0 || r.Stderr != "" || !strings.Contains(script, name) {
				t.Errorf("%s -n of the script of %s: %d %s", shell, name, r.Code, r.Stderr)
			}
		}
	}
	dir := filepath.Dir(program.RelayServer())
	for _, tt := range []struct{ program, line, want string }{
		{"relay-server", "gro", "groups"},
		{"relay-server", "agent", "agent-certificate agents"},
		{"relay-server", "groups l", "list"},
		{"relay-server", "groups list --st", "--state"},
		{"relay-server", "groups list --output j", "json"},
		{"relay-server", "groups list --output = j", "json"}, // as bash splits it
		{"relay-server", "groups list --output =", "text json"},
		{"relay-server", "--data.dir = /var/lib/pushrelay agents rev", "revoke"},
		{"relay-server", "--data.dir /var/lib/pushrelay agents rev", "revoke"},
		{"relay-server", "--log.level de", "debug"},
		{"relay-server", "--grpc.tls.cr", "--grpc.tls.crl-file"},
		{"relay-server", "groups --relay.address = http : //localhost : 9091 d", "delete"},
		{"relay-server", "check-config /etc/relay", ""}, // left to the shell
		{"relay-agent", "che", "check-config"},
		{"relay-agent", "exec --report", "--report-start"},
		{"relay-agent", "exec --job backup -- ls --", ""},
		{"relay-agent", "--relay.addr", "--relay.address"},
	} {
		script := fmt.Sprintf(completing, dir, tt.program)
		r := program.Output(t, program.Command{Path: bash, Args: append([]string{"-c", script, "bash"}, strings.Fields(tt.line)...)})
		if got := strings.Join(strings.Fields(r.Stdout), " "); r.Code != 0 || got != tt.want || r.Stderr != "" {
			t.Errorf("bash completes %s %s to %q, want %q\n%s", tt.program, tt.line, got, tt.want, r.Stderr)
		}
	}
	const inZsh = `
compdef() { :; }
compadd() { shift; print -l -- ${(P)1}; }
_files() { print files; }
path=(%s $path)
eval "$(%[2]s --completion-script-zsh)"
words=(%[2]s "$@"); CURRENT=$#words
_%[2]s
`
	for line, want := range map[string]string{"gro": "groups", "groups list --output=j": "--output=json", "groups list --output j": "json", "check-config /etc/": "files"} {
		r := program.Output(t, program.Command{Path: zsh, Args: append([]string{"-f", "-c", fmt.Sprintf(inZsh, dir, "relay-server"), "zsh"}, strings.Fields(line)...)})
		if got := strings.TrimSpace(r.Stdout); r.Code != 0 || got != want {
			t.Errorf("zsh completes relay-server %s to %q, want %q\n%s", line, got, want, r.Stderr)
		}
	}
}

// TestManPages: two readers of man pages find no fault with them, and show each command.
func TestManPages(t *testing.T) {
	t.Parallel()
	groff, mandoc := program.RequireProgram(t, "/usr/bin/groff", "groff-base"), program.RequireProgram(t, "/usr/bin/mandoc", "mandoc")
	for name, path := range program.ProgramsForPeople() {
		page := program.MustOutput(t, program.Command{Path: path, Args: []string{"--help-man"}})
		shown := program.OutputWithInput(t, program.Command{Path: groff, Args: []string{"-man", "-ww", "-Tutf8", "-P-cbou"}}, page)
		if shown.Code != 0 || shown.Stderr != "" {
			t.Errorf("%s: groff: %d %s", name, shown.Code, shown.Stderr)
		}
		// A program that was built without a date has none in its page, which is a warning.
		if r := program.OutputWithInput(t, program.Command{Path: mandoc, Args: []string{"-Tlint", "-Werror"}}, page); r.Code != 0 {
			t.Errorf("%s: mandoc: %d %s%s", name, r.Code, r.Stdout, r.Stderr)
		}
		for _, c := range manualOf(page) {
			if !strings.Contains(shown.Stdout, "\n   "+c.name) {
				t.Errorf("%s: groff shows no %q:\n%s", name, c.name, shown.Stdout)
			}
		}
	}
}

// manual is what a man page has of a command.
type manual struct {
	name     string // and its arguments
	isGroup  bool   // of commands
	examples []string
}

// asTyped undoes what a man page does to what is typed.
var asTyped = strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\(dq`, `"`, `\(rs`, `\`, `\(ga`, "`", `\(ha`, "^", `\(ti`, "~")

// manualOf returns the commands of a man page.
func manualOf(page string) (all []manual) {
	for _, section := range strings.Split(page, "\n.SS ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		m := manual{name: asTyped.Replace(strings.Trim(title, `"`))}
		m.isGroup = strings.HasSuffix(m.name, "<command>")
		for _, example := range strings.Split(text, "\n.nf\n.RS 4\n")[1:] {
			example, _, _ = strings.Cut(example, "\n.RE\n")
			for line := range strings.Lines(example) {
				m.examples = append(m.examples, asTyped.Replace(strings.TrimSpace(line)))
			}
		}
		all = append(all, m)
	}
	return all
}

// TestEachCommandHasAnExample: of its own, with commands and flags that are there.
func TestEachCommandHasAnExample(t *testing.T) {
	t.Parallel()
	bash := program.RequireProgram(t, "/usr/bin/bash", "bash")
	count := 0
	for name, path := range program.ProgramsForPeople() {
		for _, m := range manualOf(program.MustOutput(t, program.Command{Path: path, Args: []string{"--help-man"}})) {
			if m.isGroup {
				continue
			}
			if len(m.examples) == 0 {
				t.Errorf("%s %s has no example in its help", name, m.name)
			}
			words := strings.TrimSpace(m.name[:strings.IndexAny(m.name+"<", "<[")])
			for _, example := range m.examples {
				count++
				// The shell takes it apart; what stands before the program, and what it runs, are none of its business.
				at := strings.LastIndex(" "+example, " "+name+" ")
				args, _, _ := strings.Cut(example[max(at, 0)+len(name):], " -- ")
				args, _, _ = strings.Cut(args, " <") // a file that it reads
				named := strings.Contains(" "+args+" ", " "+words+" ") || words == "serve" || words == "run"
				r := program.Output(t, program.Command{Path: bash, Args: []string{"-c", `set -- ` + args + ` --help; exec "$0" "$@"`, path}})
				if at < 0 || !named || r.Code != 0 || !strings.Contains(r.Stdout, "usage: "+name) {
					t.Errorf("the example of %s %s: %s\n%d %s", name, m.name, example, r.Code, r.Stderr)
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d examples were found", count)
	}
}

// TestHelpOfEachCommand: it is about that command, with its examples whole and its flags and arguments, and short enough to be read.
func TestHelpOfEachCommand(t *testing.T) {
	t.Parallel()
	const longest = 60 // lines
	argument := regexp.MustCompile(`\[?<([a-z]+)>`)
	count := 0
	for name, path := range program.ProgramsForPeople() {
		for _, m := range manualOf(program.MustOutput(t, program.Command{Path: path, Args: []string{"--help-man"}})) {
			words := strings.TrimSpace(m.name[:strings.IndexAny(m.name+"<", "<[")])
			if name == "relay-agent" {
				words, _, _ = strings.Cut(words, " -- ")
			}
			for _, args := range [][]string{append(strings.Fields(words), "--help"), append([]string{"help"}, strings.Fields(words)...), append(strings.Fields(words), "-h")} {
				count++
				help := program.MustOutput(t, program.Command{Path: path, Args: args})
				if !strings.HasPrefix(help, "usage: "+name+" "+words) {
					t.Errorf("%s %q is about something else:\n%.200s", name, args, help)
				}
				for _, example := range m.examples {
					if !strings.Contains(help, example+"\n") {
						t.Errorf("%s %q does not have its example %s whole", name, args, example)
					}
				}
				for _, arg := range argument.FindAllStringSubmatch(m.name, -1) {
					_, described, _ := strings.Cut(help, "\nArgs:\n")
					if arg[1] != "command" && !strings.Contains(described, "<"+arg[1]+">") {
						t.Errorf("%s %q does not describe its argument %s", name, args, arg[1])
					}
				}
				// What the programs do without a command has all of their flags.
				if lines := strings.Count(help, "\n"); lines > longest && words != "serve" && words != "run" {
					t.Errorf("%s %q has %d lines", name, args, lines)
				}
				if m.isGroup && !strings.Contains(help, "\nSubcommands") {
					t.Errorf("%s %q does not have its commands", name, args)
				}
			}
		}
	}
	if count < 100 {
		t.Errorf("there are only %d", count)
	}
}
