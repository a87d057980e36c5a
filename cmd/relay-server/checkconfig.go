package main

import (
	"fmt"
	"io"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/fileowner"
	"pushrelay/internal/relay"
)

const checkHelp = `Check a file as the relay would read it, and show which of its files it is and what the relay makes of it: that of --config.file, --policy.file, --web.config.file or --grpc.tls.crl-file. Starts nothing.

Example: relay-server check-config /etc/relay-server/relay.yml

Exit codes: 0 good, also with warnings; 1 the relay would refuse it; 2 wrong command line.`

// checkCommand checks a configuration file.
type checkCommand struct {
	*kingpin.CmdClause
	file *string
}

func newCheckCommand(app *kingpin.Application) *checkCommand {
	c := &checkCommand{CmdClause: app.Command("check-config", checkHelp)}
	c.file = c.Arg("file", "File as for one of these flags; its content says which.").Required().String()
	return c
}

func (c *checkCommand) run(stdout, stderr io.Writer) int {
	what, err := relay.CheckFile(*c.file)
	if err != nil {
		fmt.Fprintf(stderr, "relay-server check-config: %v\n", err)
		return 1
	}
	for _, warning := range fileowner.Warnings(fileowner.Named{Name: "the file", Path: *c.file}) {
		fmt.Fprintf(stdout, "warning: %s\n", warning)
	}
	fmt.Fprintf(stdout, "%s: %s\n", *c.file, what)
	return 0
}
