package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/relay"
)

const witnessHelp = `Run a witness: an etcd member of a cluster and nothing else, on a data dir that has joined as one. It counts for a majority, so that two relays and a witness go on when one of the three fails. It has no port but that of its etcd; relay-server cluster status at its --data.dir says how it is.

Example: relay-server --data.dir=/var/lib/pushrelay witness`

// adminSocketHelp is of a flag that relays and witnesses have.
const adminSocketHelp = "Unix socket at which the etcd within takes etcdctl (--endpoints=unix://PATH): that of its user and root, who may change everything there. None without it."

// witnessCommand runs a witness.
type witnessCommand struct {
	*kingpin.CmdClause

	adminSocket *string
}

func newWitnessCommand(app *kingpin.Application) *witnessCommand {
	c := app.Command("witness", witnessHelp)
	return &witnessCommand{c, c.Flag("cluster.etcd-admin-socket", adminSocketHelp).PlaceHolder("PATH").String()}
}

// run runs it until a signal comes.
func (c *witnessCommand) run(dataDir string, logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return relay.RunWitness(ctx, relay.WitnessOptions{DataDir: dataDir, AdminSocket: *c.adminSocket, Logger: logger})
}
