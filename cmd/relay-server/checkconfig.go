package main

import (
	"fmt"
	"io"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/fileowner"
	"pushrelay/internal/pushrules"
)

const checkHelp = `Check a configuration file as the relay would read it, and show what it makes of it. Starts nothing.

Example: relay-server check-config /etc/pushrelay/relay.yml

Exit codes: 0 good, also with warnings; 1 the relay would refuse it; 2 wrong command line.`

// checkCommand checks a configuration file.
type checkCommand struct {
	*kingpin.CmdClause
	file *string
}

func newCheckCommand(app *kingpin.Application) *checkCommand {
	c := &checkCommand{CmdClause: app.Command("check-config", checkHelp)}
	c.file = c.Arg("file", "Configuration file, as for --config.file.").Required().String()
	return c
}

func (c *checkCommand) run(stdout, stderr io.Writer) int {
	rules, err := pushrules.Load(*c.file)
	if err != nil {
		fmt.Fprintf(stderr, "relay-server check-config: %v\n", err)
		return 1
	}
	for _, warning := range fileowner.Warnings(fileowner.Named{Name: "the configuration file", Path: *c.file}) {
		fmt.Fprintf(stdout, "warning: %s\n", warning)
	}
	fmt.Fprintf(stdout, "%s: %d push rules\n", *c.file, len(rules))
	return 0
}
