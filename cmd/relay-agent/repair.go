package main

import (
	"context"
	"fmt"
	"io"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agent"
)

const repairHelp = `Make a damaged spool one that an agent starts with: keeps all that is sound, sets damaged files aside and tells what is missing. The agent must not run.

Example: sudo -u relay-agent relay-agent repair --data.dir=/var/lib/relay-agent

Exit codes: 0 an agent starts with the spool; 1 it does not; 2 wrong command line.`

const acknowledgeHelp = `Take note of what the spool has lost, or may have: it is told, and the agent does not show it any more. Also while the agent runs.

Example: sudo -u relay-agent relay-agent acknowledge-loss --data.dir=/var/lib/relay-agent

Exit codes: 0 done; 1 it could not be noted; 2 wrong command line.`

// repairCommands are those about the spool in the data dir.
type repairCommands struct {
	repair, acknowledge *kingpin.CmdClause
	dataDir             string
}

func newRepairCommands(app *kingpin.Application) *repairCommands {
	c := &repairCommands{repair: app.Command("repair", repairHelp), acknowledge: app.Command("acknowledge-loss", acknowledgeHelp)}
	for _, command := range []*kingpin.CmdClause{c.repair, c.acknowledge} {
		command.Flag("data.dir", "Data dir of the agent.").Default(agent.DefaultOptions().DataDir).PlaceHolder("DIR").StringVar(&c.dataDir)
	}
	return c
}

func (c *repairCommands) run(command string, stdout, stderr io.Writer) int {
	var err error
	if command == c.repair.FullCommand() {
		err = agent.RepairSpool(context.Background(), c.dataDir, stdout) // a signal ends the program; it may be run again
	} else {
		err = agent.AcknowledgeLoss(c.dataDir, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent %s: %v\n", command, err)
		return exitFailed
	}
	return exitOK
}
