package spool

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/wal"
)

// Run looks after the journal until ctx ends: it makes snapshots, and resumes the journal after the disk failed.
func (s *Spool) Run(ctx context.Context) error {
	if s.journal.log == nil {
		<-ctx.Done()
		return nil
	}
	keeper := wal.Keeper{
		Log: s.journal.log, LiveBytes: s.liveBytes, Snapshot: s.snapshot, Failed: s.journal.failed,
		Unwritable: func(err error) {
			s.cfg.Logger.Error("the spool takes no pushes until its journal can be written again: they are answered 503", slog.Any("err", err))
		},
		Writable: func() {
			s.durableAgain()
			s.cfg.Logger.Info("the spool takes pushes again")
		},
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
	return s.groups.bytes
}

// recovered returns what is closed once everything that the spool holds by then is on the disk.
func (s *Spool) recovered() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.recovery
}

// frozen is the spool at one moment.
type frozen struct {
	writer   writer
	journal  JournalID
	sequence uint64
	attached relays // to whom anything may be sent after this moment
	cursors  []cursor
	settings map[string]settings // by address
	recorded *receipt
	changes  []frozenChange
	underway []*entry // those that were not known to be on the disk
}

// frozenChange is a change at that moment: what may be another soon is copied.
type frozenChange struct {
	*entry

	sequence  uint64
	operation change.Operation
	gauges    addup.Gauges
	format    exposition.Format
	body      []byte
	bodyBytes int
	families  []uint64
	life      lifetime.Declaration
	failed    string
	undecided relays
	anew      relays
	sent      relays
	applied   bool
}

// snapshot writes the whole spool beside the journal, and lets the journal begin after it.
func (s *Spool) snapshot(ctx context.Context) error {
	s.mu.Lock()
	room := s.groups.order.count + s.groups.order.count/8
	s.mu.Unlock()
	// The memory is there before pushes have to wait for the copies.
	f := frozen{changes: make([]frozenChange, 0, room)}
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
	for _, c := range f.underway {
		c.durable = nil
	}
	if s.journal.recorded == f.recorded {
		s.journal.recorded = nil
	}
	s.journal.signalRecovery()
	return nil
}

// durableAgain says that the journal can be written again: what was in doubt is on the disk.
func (s *Spool) durableAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.signalRecovery()
}

// freeze copies what a snapshot consists of, and draws the line in the journal.
func (s *Spool) freeze(f *frozen) (*wal.SnapshotWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.recorded = s.journal.flush()
	w, err := s.journal.log.Rotate()
	if err != nil {
		return nil, err
	}
	f.writer = s.journal.self()
	f.journal, f.sequence, f.attached = s.journal.id, s.journal.sequence, s.cursors.attached()
	for cur := range s.cursors.all() {
		f.cursors = append(f.cursors, *cur)
	}
	f.settings = maps.Clone(s.door.remembered.byAddress)
	for c := range s.groups.order.all() {
		f.changes = append(f.changes, frozenChange{
			entry: c, sequence: c.sequence, operation: c.operation, gauges: c.gauges, format: c.format, body: c.body, bodyBytes: c.bodyBytes, families: c.families,
			life: c.life, failed: c.failed, undecided: c.undecided, anew: c.anew, sent: c.sent, applied: c.applied,
		})
		if c.durable != nil {
			f.underway = append(f.underway, c)
		}
	}
	return w, nil
}

func (f *frozen) write(ctx context.Context, w *wal.SnapshotWriter) error {
	if err := w.Add(f.writer.payload()); err != nil {
		return err
	}
	if err := w.Add(journalRecord(f.journal, f.sequence, nil)); err != nil {
		return err
	}
	for i := range f.cursors {
		if err := w.Add(cursorRecord(&f.cursors[i], knownCursor)); err != nil {
			return err
		}
	}
	for address, st := range f.settings {
		if err := w.Add(settingsRecord(address, st)); err != nil {
			return err
		}
	}
	var payload []byte
	for i := range f.changes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		payload = f.changes[i].append(payload[:0], f.attached)
		if err := w.Add(payload); err != nil {
			return err
		}
	}
	return nil
}

// append appends the payload of the change as it was.
func (c *frozenChange) append(b []byte, attached relays) []byte {
	then := entry{
		group: c.group, sequence: c.sequence, operation: c.operation, gauges: c.gauges, format: c.format, body: c.body, bodyBytes: c.bodyBytes, families: c.families,
		pushedAt: c.pushedAt, owner: c.owner, failed: c.failed, life: c.life, digest: c.digest, anew: c.anew, applied: c.applied, later: c.later,
	}
	return appendChange(b, &then, c.undecided, (c.sent|attached)&c.undecided)
}
