package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/relayapi"
)

const checkReadyHelp = `Ask a running relay whether it is ready, as a health check of a container does, which has no other program to ask with.

Exit codes: 0 ready; 1 what answers is no relay, or refuses; 2 wrong command line; 3 the relay cannot be reached, or is not ready: it starts, or stops.

Example: relay-server check-ready --relay.address=http://127.0.0.1:9091`

// readyPatience is less than a health check of a container waits.
const readyPatience = 5 * time.Second

// checkReadyCommand asks a relay whether it is ready.
type checkReadyCommand struct {
	*kingpin.CmdClause
	address *string
}

func newCheckReadyCommand(app *kingpin.Application) *checkReadyCommand {
	c := &checkReadyCommand{CmdClause: app.Command("check-ready", checkReadyHelp)}
	c.address = c.Flag("relay.address", "Where the relay listens: http://[USER:PASSWORD@]HOST:PORT, https://…, with its route prefix if it has one, or unix:PATH (default: "+relayapi.DefaultAddress+").").
		Envar("RELAY_SERVER_ADDRESS").Default(relayapi.DefaultAddress).PlaceHolder("ADDRESS").String()
	return c
}

func (c *checkReadyCommand) run(stderr io.Writer) int {
	client, err := relayapi.New(*c.address)
	if err != nil {
		fmt.Fprintf(stderr, "relay-server check-ready: --relay.address or $RELAY_SERVER_ADDRESS: %v\n", err)
		return exitUsage
	}
	_, err = within(context.Background(), readyPatience, func(ctx context.Context) (struct{}, error) { // a signal ends the program
		return struct{}{}, client.Ready(ctx)
	})
	if err != nil {
		fmt.Fprintf(stderr, "relay-server check-ready: %v\n", advised(err))
		return codeOf(err)
	}
	return exitOK
}
