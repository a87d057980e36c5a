// Package commandline says what somebody may have meant whose command line a program does not know, writes defaults of flags as
// people do, and what others have worded as a terminal may show it. It writes the help of a command, completes command lines for shells, and writes man pages.
//
// It promises that the error stays the parser's own, with more behind it. It knows no program's flags.
package commandline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// Advise returns the error of parsing the arguments of a program, with what was most likely meant if a command or a flag is
// unknown, and with what there is if one of a group of commands is missing.
func Advise(app *kingpin.ApplicationModel, args []string, err error) error {
	switch at := placeOf(app, args); {
	case at.unknown == nil && at.chosen != nil && len(at.commands) > 0:
		return fmt.Errorf("%w: %s", err, theCommands(at.commands))
	case at.unknown == nil:
		return err
	case at.unknown.isFlag:
		return adviseFlag(at.unknown.flags, at.unknown.name, err)
	default:
		return adviseCommand(at.unknown.commands, at.unknown.name, err)
	}
}

// flagsWithout are those that may stand where no command does: of the program, and of what happens without one.
func flagsWithout(app *kingpin.ApplicationModel) []*kingpin.FlagModel {
	flags := slices.Clone(app.Flags)
	for _, command := range app.Commands {
		if command.Default {
			flags = append(flags, command.Flags...)
		}
	}
	return flags
}

func find(flags []*kingpin.FlagModel, name string) *kingpin.FlagModel {
	for _, flag := range flags {
		if flag.Name == name || flag.IsBoolFlag() && "no-"+flag.Name == name {
			return flag
		}
	}
	return nil
}

func adviseFlag(flags []*kingpin.FlagModel, name string, err error) error {
	var names []string
	for _, flag := range flags {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	}
	if meant := nearest(name, names); meant != "" {
		return fmt.Errorf("%w: did you mean --%s?", err, meant)
	}
	return err
}

func adviseCommand(commands []*kingpin.CmdModel, name string, err error) error {
	if meant := nearest(name, commandWords(commands)); meant != "" {
		return fmt.Errorf("%w: did you mean %s?", err, meant)
	}
	return fmt.Errorf("%w: %s", err, theCommands(commands))
}

func theCommands(commands []*kingpin.CmdModel) string {
	return "the commands are " + strings.Join(commandWords(commands), ", ")
}

// nearest returns the name that differs least from the word; empty if each differs by much. A word that is all of a name but
// its beginning, or its beginning and all of nothing else, stands for it too.
func nearest(word string, names []string) string {
	best, bestDistance := "", 1+len(word)/4
	for _, name := range names {
		if d := distance(word, name); d < bestDistance || d == bestDistance && best == "" {
			best, bestDistance = name, d
		}
	}
	if best != "" || len(word) < 3 {
		return best
	}
	parts := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return !strings.HasPrefix(name, word) && !strings.HasSuffix(name, "."+word)
	})
	if len(parts) == 1 {
		return parts[0]
	}
	return ""
}

// distance counts the letters that were left out, added, exchanged for others or for their neighbour between two words.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			exchanged := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				exchanged++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, exchanged)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
