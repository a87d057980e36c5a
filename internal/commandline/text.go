package commandline

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"
)

// Text has a flag take a text that is not empty. Without this an empty variable of a script would be no flag at all, and something else would be done,
// most often with more than was meant.
func Text(flag *kingpin.FlagClause, to *string) {
	flag.SetValue(text{flag: flag.Model().Name, to: to})
}

// Texts is [Text] of a flag that may be given several times.
func Texts(flag *kingpin.FlagClause, to *[]string) {
	flag.SetValue(texts{flag: flag.Model().Name, to: to})
}

// text is a kingpin.Value.
type text struct {
	flag string
	to   *string
}

// Set takes the value of the flag.
func (t text) Set(value string) error {
	if value == "" {
		return emptyError(t.flag)
	}
	*t.to = value
	return nil
}

// String returns what was taken.
func (t text) String() string { return *t.to }

// texts is a kingpin.Value.
type texts struct {
	flag string
	to   *[]string
}

// Set takes one more value of the flag.
func (t texts) Set(value string) error {
	if value == "" {
		return emptyError(t.flag)
	}
	*t.to = append(*t.to, value)
	return nil
}

// String returns what was taken.
func (t texts) String() string { return fmt.Sprint(*t.to) }

// IsCumulative says that the flag may be given several times.
func (texts) IsCumulative() bool { return true }

func emptyError(flag string) error {
	return fmt.Errorf("--%s is empty: give it a value, or leave it away", flag)
}
