package spool

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"pushrelay/internal/wal"
)

// Run keeps the journal until ctx ends: it makes snapshots, and takes up the journal again after the disk failed.
func (s *Spool) Run(ctx context.Context) error {
	if s.log == nil {
		<-ctx.Done()
		return nil
	}
	keeper := wal.Keeper{
		Log: s.log, LiveBytes: s.liveBytes, Snapshot: s.snapshot, Failed: s.failed,
		Unwritable: func(err error) {
			s.cfg.Logger.Error("the spool takes no pushes until its journal can be written again: they are answered 503", slog.Any("err", err))
		},
		Writable: func() { s.cfg.Logger.Info("the spool takes pushes again") },
		SnapshotFailed: func(err error, retryIn time.Duration) {
			s.metrics.snapshotFailures.Inc()
			s.cfg.Logger.Warn("no snapshot of the spool could be made; trying again", slog.Any("err", err), slog.Duration("after", retryIn))
		},
	}
	keeper.Run(ctx)
	return nil
}

func (s *Spool) liveBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// recovered returns what is closed once everything that the spool holds by then is on the disk.
func (s *Spool) recovered() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovery
}

// frozen is the spool at one moment.
type frozen struct {
	journal  JournalID
	sequence uint64
	attached relays // to whom anything may be sent after this moment
	cursors  []cursor
	recorded []*receipt
	changes  []change // copies
	live     []*change
}

// snapshot writes the whole spool beside the journal, and lets the journal begin after it.
func (s *Spool) snapshot(ctx context.Context) error {
	var f frozen
	w, err := s.freeze(&f)
	if err != nil {
		return fmt.Errorf("beginning a snapshot: %w", err)
	}
	defer w.Abort() // does nothing after Commit
	if err := f.write(ctx, w); err != nil {
		return err
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range f.live {
		c.durable = nil
	}
	for i, cur := range f.cursors {
		if now := s.cursors[cur.slot]; now != nil && now.recorded == f.recorded[i] {
			now.recorded = nil
		}
	}
	close(s.recovery)
	s.recovery = make(chan struct{})
	return nil
}

// freeze copies what a snapshot consists of, and draws the line in the journal.
func (s *Spool) freeze(f *frozen) (*wal.SnapshotWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.log.Rotate()
	if err != nil {
		return nil, err
	}
	f.journal, f.sequence, f.attached = s.journal, s.sequence, s.attached()
	for _, cur := range s.cursors {
		if cur != nil {
			f.cursors = append(f.cursors, *cur)
			f.recorded = append(f.recorded, cur.recorded)
		}
	}
	f.live = s.inOrder()
	f.changes = make([]change, 0, len(f.live))
	for _, c := range f.live {
		f.changes = append(f.changes, *c)
	}
	return w, nil
}

func (f *frozen) write(ctx context.Context, w *wal.SnapshotWriter) error {
	if err := w.Add(appendJournal(nil, f.journal, f.sequence, nil)); err != nil {
		return err
	}
	for i := range f.cursors {
		if err := w.Add(appendCursor(nil, &f.cursors[i], knownCursor)); err != nil {
			return err
		}
	}
	var payload []byte
	for i := range f.changes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c := &f.changes[i]
		payload = appendChange(payload[:0], c, (c.sent|f.attached)&c.undecided)
		if err := w.Add(payload); err != nil {
			return err
		}
	}
	return nil
}
