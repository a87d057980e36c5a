package commandline

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// Shells completes command lines of a program, and says how in the scripts of two shells. kingpin's own completion knows no commands where one of
// them is the default, no flags of a group of commands, and no --flag=value.
type Shells struct {
	App *kingpin.ApplicationModel
	// Values are those that flags can have, by the flag's name; what has none is left to the shell, which knows files.
	Values map[string][]string
}

// The flags that say what is asked for. kingpin has them, too, and hides them.
const (
	completeBash = "--completion-bash"
	completeZsh  = "--completion-zsh"
	scriptBash   = "--completion-script-bash"
	scriptZsh    = "--completion-script-zsh"
	helpMan      = "--help-man"
	helpMarkdown = "--help-markdown"
)

// Answer writes what a shell, or whoever installs the program, asks for, and says whether that is what the arguments are: a script for a shell,
// the words that may stand last, the man page, of the version, or the page of the documentation.
func (s *Shells) Answer(args []string, version string, w io.Writer) bool {
	if len(args) == 0 {
		return false
	}
	switch args[0] {
	case scriptBash:
		fmt.Fprintf(w, bashScript, s.App.Name)
	case scriptZsh:
		fmt.Fprintf(w, zshScript, s.App.Name)
	case completeBash:
		words, bare := joinSplit(args[1:])
		writeLines(w, s.complete(words, bare))
	case completeZsh:
		writeLines(w, s.complete(args[1:], false))
	case helpMan:
		writeManPage(w, s.App, version)
	case helpMarkdown:
		writeMarkdown(w, s.App)
	default:
		return false
	}
	return true
}

// bashScript has bash ask the program. It splits words at "=" and ":", and replaces what is after them.
const bashScript = `# %[1]s --completion-script-bash >/usr/share/bash-completion/completions/%[1]s
_%[1]s() {
	local IFS=$'\n'
	COMPREPLY=($("${COMP_WORDS[0]}" ` + completeBash + ` "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _%[1]s %[1]s
`

const zshScript = `#compdef %[1]s
# %[1]s --completion-script-zsh >/usr/share/zsh/site-functions/_%[1]s
_%[1]s() {
	local -a matches
	matches=(${(f)"$("${words[1]}" ` + completeZsh + ` "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	if (( $#matches )); then
		compadd -a matches
	else
		_files
	fi
}
if [[ "${funcstack[1]}" == "_%[1]s" ]]; then
	_%[1]s "$@"
else
	compdef _%[1]s %[1]s
fi
`

// joinSplit joins what bash splits. bare says that only a value is completed, since bash replaces no more.
func joinSplit(words []string) (joined []string, bare bool) {
	for i := 0; i < len(words); i++ {
		if last := len(joined) - 1; last >= 0 && (words[i] == "=" || words[i] == ":") {
			bare = i >= len(words)-2
			joined[last] += words[i]
			if i+1 < len(words) {
				i++
				joined[last] += words[i]
			}
			continue
		}
		joined = append(joined, words[i])
	}
	return joined, bare
}

// complete returns the words that may stand in place of the last one, which may be the begin of them or empty.
func (s *Shells) complete(words []string, bare bool) []string {
	if len(words) == 0 {
		return nil
	}
	before, current := words[:len(words)-1], words[len(words)-1]
	place := placeOf(s.App, before)
	name, value, hasValue := strings.Cut(strings.TrimPrefix(current, "--"), "=")
	switch {
	case place.ended:
		return nil
	case place.flag != nil:
		return beginning(s.Values[place.flag.Name], current)
	case strings.HasPrefix(current, "--") && hasValue:
		values := beginning(s.Values[name], value)
		if bare {
			return values
		}
		for i, v := range values {
			values[i] = "--" + name + "=" + v
		}
		return values
	case strings.HasPrefix(current, "-"):
		return beginning(flagWords(place.flags), current)
	default:
		return beginning(commandWords(place.commands), current)
	}
}

// A place is where in a command line a word stands.
type place struct {
	flags    []*kingpin.FlagModel // that may stand there
	commands []*kingpin.CmdModel
	chosen   *kingpin.CmdModel  // before it; nil for none
	flag     *kingpin.FlagModel // whose value it is; nil for none
	ended    bool               // nothing of the program's stands there any more
	unknown  *unknown           // before it; nil for none
}

// unknown is the first flag or command that there is none of, and those that may have stood in its stead.
type unknown struct {
	name     string
	isFlag   bool
	flags    []*kingpin.FlagModel
	commands []*kingpin.CmdModel
}

func placeOf(app *kingpin.ApplicationModel, before []string) place {
	p := place{flags: flagsWithout(app), commands: app.Commands}
	given := app.Flags
	for i := 0; i < len(before); i++ {
		name, isFlag := strings.CutPrefix(before[i], "--")
		switch {
		case before[i] == "--":
			p.ended = true
			return p
		case isFlag:
			name, _, hasValue := strings.Cut(name, "=")
			known := find(p.flags, name)
			if known == nil {
				p.note(unknown{name: name, isFlag: true})
			}
			if known == nil || hasValue || known.IsBoolFlag() {
				continue
			}
			if i++; i == len(before) {
				p.flag = known
			}
		case strings.HasPrefix(before[i], "-"):
			// A short flag.
		default:
			at := slices.IndexFunc(p.commands, func(c *kingpin.CmdModel) bool { return c.Name == before[i] })
			if at < 0 {
				if len(p.commands) > 0 { // else it is an argument
					p.note(unknown{name: before[i]})
				}
				continue
			}
			p.chosen = p.commands[at]
			given = slices.Concat(given, p.chosen.Flags)
			p.flags, p.commands = given, p.chosen.Commands
		}
	}
	return p
}

// note notes what is unknown, if nothing was before.
func (p *place) note(u unknown) {
	if p.unknown == nil {
		u.flags, u.commands = p.flags, p.commands
		p.unknown = &u
	}
}

// isOnByDefault says that what can be said of a flag is no.
func isOnByDefault(flag *kingpin.FlagModel) bool {
	return flag.IsBoolFlag() && slices.Equal(flag.Default, []string{"true"})
}

func flagWords(flags []*kingpin.FlagModel) (words []string) {
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		words = append(words, "--"+flag.Name)
		if isOnByDefault(flag) {
			words = append(words, "--no-"+flag.Name)
		}
	}
	return words
}

func commandWords(commands []*kingpin.CmdModel) (words []string) {
	for _, command := range commands {
		if !command.Hidden {
			words = append(words, command.Name)
		}
	}
	return words
}

func beginning(words []string, begin string) (out []string) {
	for _, word := range words {
		if strings.HasPrefix(word, begin) {
			out = append(out, word)
		}
	}
	return out
}

func writeLines(w io.Writer, lines []string) {
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
}
