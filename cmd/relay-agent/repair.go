package main

import (
	"context"
	"fmt"
	"io"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agent"
)

const repairHelp = `Make a damaged spool readable: keeps all that is sound, sets damaged files aside and tells what is missing. The agent must not run.

Exit codes: 0 the spool can be read; 1 it cannot; 2 wrong command line.`

// repairCommand repairs a spool.
type repairCommand struct {
	*kingpin.CmdClause
	dataDir *string
}

func newRepairCommand(app *kingpin.Application) *repairCommand {
	c := &repairCommand{CmdClause: app.Command("repair", repairHelp)}
	c.dataDir = c.Flag("data.dir", "Data dir of the agent.").Default(agent.DefaultDataDir()).PlaceHolder("DIR").String()
	return c
}

func (c *repairCommand) run(stdout, stderr io.Writer) int {
	if err := agent.RepairSpool(context.Background(), *c.dataDir, stdout); err != nil { // a signal ends the program; it may be run again
		fmt.Fprintf(stderr, "relay-agent repair: %v\n", err)
		return exitFailed
	}
	return exitOK
}
