package fileowner

import (
	"fmt"
	"strings"
)

// An Exposure says who else than root and the user of this process may write somewhere.
type Exposure struct {
	// Path is what they may write to: what was asked for, or a directory above it.
	Path string
	// Who they are, in words.
	Who string
	// Group says that they are the members of a group, which may be meant.
	Group bool
}

// String is a sentence without its end.
func (e *Exposure) String() string { return fmt.Sprintf("%s may write to %q", e.Who, e.Path) }

// Exposed says who else than root and the user of this process may write to a file or a directory, or put another one in its
// place because they may write to a directory above it; nil if nobody. Of what is not there it judges the directories above.
func Exposed(path string) *Exposure { return exposed(path, itself) }

// A Named is a file or a directory that a program relies on, and what its people call it: the flag, for instance.
type Named struct{ Name, Path string }

// Warnings says of all that a program relies on what others may write to, one line for each place that they may write to. An
// empty path is none.
func Warnings(relied ...Named) []string {
	var places []string
	names := map[string][]string{}
	for _, n := range relied {
		if n.Path == "" {
			continue
		}
		e := Exposed(n.Path)
		if e == nil {
			continue
		}
		place := e.String()
		if names[place] == nil {
			places = append(places, place)
		}
		names[place] = append(names[place], n.Name)
	}
	for i, place := range places {
		places[i] = fmt.Sprintf("%s, and so decides what is in %s: take that right away with chown or chmod, or lay it elsewhere", place, strings.Join(names[place], ", "))
	}
	return places
}

// CheckOutput says what is wrong with a directory that keys are to be written into, or with one above it: it belongs to somebody else,
// or everybody may write to it. A directory that is not there yet is judged by those above it. Whoever has become root by sudo is
// not somebody else.
func CheckOutput(dir string) error {
	if err := CheckLinks(dir); err != nil {
		return err
	}
	if e := exposed(dir, output); e != nil && !e.Group {
		return fmt.Errorf("%s: keys are not written where others may take them or exchange them: choose a directory of your own, and copy them from there", e)
	}
	return nil
}

// A purpose is what somebody asks for.
type purpose int

const (
	itself purpose = iota // whether something can be changed
	output                // whether something can be put into a directory
)
