package keep

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"
)

// Memory keeps a store for as long as the process lives: what is applied is committed, and each one is another store than those before. It is
// made by [NewMemory].
type Memory struct {
	// Static after construction.
	store   *groupstore.Store
	id      ID
	epoch   history.Epoch
	release string
}

var _ Keep = (*Memory)(nil)

// NewMemory returns an empty store in memory. The release is named in backups.
func NewMemory(cfg groupstore.Config, release string) *Memory {
	m := &Memory{release: release}
	cfg.Appender = m
	m.store = groupstore.New(cfg)
	rand.Read(m.id[:])
	rand.Read(m.epoch.ID[:])
	return m
}

// Append commits a change by doing nothing.
func (m *Memory) Append(uint64, groupstore.Effect) (wait func(context.Context) error, err error) {
	return nil, nil
}

// Store is for [Keep], as all that follows.
func (m *Memory) Store() *groupstore.Store { return m.store }

// Recover finds nothing.
func (m *Memory) Recover(context.Context) error { return nil }

// Run has nothing to do.
func (m *Memory) Run(context.Context) error { return nil }

// Close has nothing to commit.
func (m *Memory) Close() error { return nil }

// Failure returns nil: memory can always be written.
func (m *Memory) Failure() error { return nil }

// Losses returns none: nothing outlives the process that could be lost.
func (m *Memory) Losses() []wal.Loss { return nil }

// Fresh returns false: nothing was expected to be there.
func (m *Memory) Fresh() bool { return false }

// ID returns an ID that no other process has.
func (m *Memory) ID() ID { return m.id }

// History returns the one epoch that there is.
func (m *Memory) History() history.History {
	return history.History{Epochs: []history.Epoch{m.epoch}, Position: m.store.Position()}
}

// Imported returns false: files are taken over at each start.
func (m *Memory) Imported(string) bool { return false }

// NoteImport notes nothing.
func (m *Memory) NoteImport(context.Context, Import) error { return nil }

// WriteBackup writes what the store holds.
func (m *Memory) WriteBackup(ctx context.Context, out io.Writer, l *ledger.State) error {
	return BackUp(ctx, out, m.release, m.store, l)
}

// BackUp writes what a store holds that is kept without marks, as [Keep.WriteBackup] does.
func BackUp(ctx context.Context, out io.Writer, release string, store *groupstore.Store, l *ledger.State) error {
	cut, err := store.Cut(func() error { return nil })
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return streamBackup(ctx, out, marks{writer: selfWith(release, l)}, cut, l)
}
