package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/relay"
)

// outputFlag adds the flag that says for whom the answer of a command is.
func outputFlag(command *kingpin.CmdClause) *string {
	return command.Flag("output", "text for people, json for programs.").Default("text").Enum("text", "json")
}

// An output is where a command says what it did.
type output struct {
	stdout, stderr io.Writer
	asJSON         bool
	dataDir        string
}

// tell writes the answer, and on standard error that it comes from files, so that what a program reads is the answer alone.
func (o *output) tell(source relay.Source, data any, forPeople func(io.Writer)) {
	if source == relay.FromFiles {
		fmt.Fprintf(o.stderr, "no relay runs on %s: this is about its files\n", o.dataDir)
	}
	o.write(data, forPeople)
}

// write writes the answer.
func (o *output) write(data any, forPeople func(io.Writer)) {
	if !o.asJSON {
		forPeople(o.stdout)
		return
	}
	encoder := json.NewEncoder(o.stdout)
	encoder.SetIndent("", "  ")
	encoder.Encode(data) //nolint:errcheck,errchkjson // Nobody to tell.
}

// writeTable writes a table. The cells of a row are separated by tabs.
func writeTable(w io.Writer, header string, rows func(table io.Writer)) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	defer table.Flush() //nolint:errcheck // Nobody to tell.
	fmt.Fprintln(table, header)
	rows(table)
}
