package keep

import (
	"context"
	"io"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"
)

// Keep is how a store is kept: in [Memory] or on a [Disk]. It may be used by several goroutines, apart from what is said of the single
// methods.
//
// A change is applied when the store shows it, and committed when it outlives whatever the keep is a remedy for. What was not committed when a
// process died may or may not be there after it.
type Keep interface {
	// An Appender commits the changes of the store, in the store's order.
	groupstore.Appender

	// Store returns the store that is kept. It is the same one for life, and may be neither changed nor shown before Recover has returned.
	Store() *groupstore.Store
	// Recover fills the store with what is kept. It is called once, before anything else is done with the store. An error means that nothing
	// of what is kept was changed.
	Recover(ctx context.Context) error
	// Run does what has to be done while the store is in use, such as making snapshots, until ctx ends. It runs once, after Recover.
	Run(ctx context.Context) error
	// Close commits what is not committed yet and gives up what the keep holds. Run must have returned. It does nothing before Recover.
	Close() error

	// Failure returns why the store cannot be changed, nil if it can.
	Failure() error
	// Losses returns what the store has lost, or may have, and nobody has taken note of.
	Losses() []wal.Loss
	// Fresh says whether nothing was kept before. It is valid once the store is recovered, as are the next four.
	Fresh() bool
	// ID returns what identifies the store.
	ID() ID
	// History returns where the store has been.
	History() history.History
	// Imported says whether the file of that name was taken over, now or in an earlier life.
	Imported(name string) bool
	// NoteImport commits that a file was taken over. The changes of which that consisted are committed by then as well.
	NoteImport(ctx context.Context, i Import) error
	// WriteBackup writes what the store holds at this moment, as [Backup] does of a log, and as [ReceiveBackup] takes it, and behind that what a ledger
	// says by then; nil for none. It needs no room on the disk; what has changed meanwhile is held in memory until it returns.
	WriteBackup(ctx context.Context, out io.Writer, l *ledger.State) error
}
