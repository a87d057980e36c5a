package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
)

const (
	backupHelp = `Write the store and the ledger of certificates into one file: those of the relay that runs on --data.dir, or else what lies there. The authority with its key and the known agents are not in it.

Example: sudo relay-server --data.dir=/var/lib/pushrelay backup --to=/var/backups/pushrelay.store`
	restoreHelp = `Make the store of an empty data dir from a backup, and its ledger. A ledger that is there is joined with it: nobody who was revoked is let in.

Example: sudo relay-server --data.dir=/var/lib/pushrelay-new restore --from=/var/backups/pushrelay.store`
	repairHelp = `Make a damaged store one that a relay starts with: keeps all that is sound, sets damaged files aside and tells what is missing.

Example: sudo relay-server --data.dir=/var/lib/pushrelay repair`
	acknowledgeHelp = `Take note of what the store has lost, or may have: it is told, and the relay does not show it any more. Also while the relay runs.

Example: sudo relay-server --data.dir=/var/lib/pushrelay acknowledge-loss`
)

// storeCommands are those about the store in the data dir.
type storeCommands struct {
	backup, restore, repair, acknowledge *kingpin.CmdClause
	to, from, output                     *string
}

func newStoreCommands(app *kingpin.Application) *storeCommands {
	c := &storeCommands{
		backup:      app.Command("backup", backupHelp),
		restore:     app.Command("restore", restoreHelp),
		repair:      app.Command("repair", repairHelp),
		acknowledge: app.Command("acknowledge-loss", acknowledgeHelp),
	}
	c.to = c.backup.Flag("to", "File to write; replaced if it is there.").Required().PlaceHolder("FILE").String()
	c.output = outputFlag(c.backup)
	c.from = c.restore.Flag("from", "File that backup has written.").Required().PlaceHolder("FILE").String()
	return c
}

// has says whether the command is one of these.
func (c *storeCommands) has(command string) bool {
	return slices.Contains([]string{c.backup.FullCommand(), c.restore.FullCommand(), c.repair.FullCommand(), c.acknowledge.FullCommand()}, command)
}

func (c *storeCommands) run(command string, k relay.Keep, stdout io.Writer) error {
	if k.DataDir == "" {
		return errors.New("--data.dir is empty: the store is in the data dir of the relay")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch command {
	case c.backup.FullCommand():
		done, err := k.Backup(ctx, *c.to)
		if err == nil {
			out := &output{stdout: stdout, asJSON: *c.output == "json"}
			out.write(done, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s, %d series; %s\n", done.File, commandline.Count(done.Groups, "group"), done.Series, ledgerWords(done.Ledger))
			})
		}
		return err
	case c.restore.FullCommand():
		return k.Restore(ctx, *c.from, stdout)
	case c.acknowledge.FullCommand():
		return k.AcknowledgeLoss(stdout)
	default:
		return k.Repair(ctx, stdout)
	}
}

// ledgerWords say what of the ledger is in a backup.
func ledgerWords(l *relay.LedgerSummary) string {
	if l == nil {
		return "without the ledger, since the relay that runs is of an earlier release: restart it, and make another backup"
	}
	return l.Words()
}

// progressEvery is how often progress is shown.
const progressEvery = 200 * time.Millisecond

// progressOn returns what shows the progress of long work on a terminal; nil if the file is none.
func progressOn(f *os.File) func(what string, done, total int64) {
	if !isTerminal(f) {
		return nil
	}
	var shown time.Time
	return func(what string, done, total int64) {
		ended := done >= total
		if !ended && time.Since(shown) < progressEvery {
			return
		}
		shown = time.Now()
		end := ""
		if ended {
			end = "\n"
		}
		fmt.Fprintf(f, "\r%s: %d %%\033[K%s", what, 100*done/max(total, 1), end)
	}
}

func isTerminal(f *os.File) bool {
	stat, err := f.Stat()
	return err == nil && stat.Mode()&os.ModeCharDevice != 0
}
