package spool

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"

	"pushrelay/internal/change"
	"pushrelay/internal/wal"
)

// A JournalID identifies the numbering of changes. It is made with an empty spool, and anew when the numbers turn out to be
// another spool's as well (T11, T12).
type JournalID [16]byte

// String returns the id in hexadecimal.
func (id JournalID) String() string { return hex.EncodeToString(id[:]) }

func newJournalID() JournalID {
	var id JournalID
	rand.Read(id[:])
	return id
}

// Decided is what a relay says of the journal when a session begins: the highest sequence that it has decided, and the digest
// of that change. The zero value says that it knows nothing of it.
type Decided struct {
	Sequence uint64
	Digest   change.Digest
}

// segmentBytes and snapshotFloorBytes are those of the journal: less than a relay's, because agents run on small disks.
const (
	segmentBytes       = 16 << 20
	snapshotFloorBytes = 16 << 20
)

// journal is the numbering of the spool's changes, and the log that they go into. It is guarded by Spool.mu, which the caller
// holds, but for what is static.
type journal struct {
	// Static after Recover.
	cfg    wal.Config // without a directory for a spool in memory
	logger *slog.Logger
	log    *wal.Log      // nil for a spool in memory
	failed chan struct{} // one slot; filled when the log cannot be written

	id       JournalID
	sequence uint64        // the last that was given
	payload  []byte        // a buffer for the payload of a change
	verdicts []verdict     // that are not in the log yet
	recorded *receipt      // of the last that is
	recovery chan struct{} // closed when everything that was in doubt is durable
}

func newJournal(cfg *Config) journal {
	return journal{
		cfg: wal.Config{
			Dir: cfg.Dir, Release: cfg.Release, NoLock: cfg.NoLock, FS: cfg.FS, SegmentBytes: cmp.Or(cfg.SegmentBytes, segmentBytes), SnapshotFloorBytes: snapshotFloorBytes,
		},
		logger: cfg.Logger, failed: make(chan struct{}, 1), recovery: make(chan struct{}),
	}
}

// open opens the log, and reads what it holds.
func (j *journal) open(ctx context.Context, r *replay) (found wal.Recovery, err error) {
	if j.log, found, err = wal.Open(ctx, j.cfg, r.replay()); err != nil {
		return found, err
	}
	if r.writer != j.self() {
		j.note(j.self().payload()) // before anything else that this release writes
	}
	return found, nil
}

// tell logs what was found in the log that people should know.
func (j *journal) tell(found *wal.Recovery) {
	if c := found.CutOff; c != nil {
		if c.InDoubt {
			j.logger.Error("what is behind the last sound change of the journal was cut off, and may have been answered", c.Attrs()...)
		} else {
			j.logger.Warn("a torn tail of the journal was cut off: its writing was interrupted, and nothing in it had been answered", c.Attrs()...)
		}
	}
	for _, path := range found.SetAside {
		j.logger.Warn("a damaged snapshot was set aside; an older one and the journal made up for it", slog.String("file", path))
	}
	for _, loss := range found.Losses {
		j.logger.Error("the spool has lost something, or may have, and nobody has taken note of it yet (relay-agent acknowledge-loss)",
			slog.String("lost", loss.String()), slog.String("reason", loss.Reason), slog.Time("found", loss.Found))
	}
	if found.Failure != nil {
		j.logger.Error("the spool takes no pushes: its journal can be read and not written", slog.Any("err", found.Failure))
	}
}

// failure returns why the log cannot be written, nil if it can. It needs no lock.
func (j *journal) failure() error {
	if j.log == nil {
		return nil
	}
	return j.log.Status().Failure
}

// losses returns what the log has lost, or may have, and nobody has acknowledged. It needs no lock.
func (j *journal) losses() []wal.Loss {
	if j.log == nil {
		return nil
	}
	return j.log.Losses()
}

// keptPayloadBytes is the largest buffer for payloads that is kept for the next change.
const keptPayloadBytes = 1 << 20

// add puts a change into the log, behind all verdicts so far. The relays of undecided have still to decide it, those of attached
// may have it soon. An error means that it is not in the log.
func (j *journal) add(c *entry, undecided, attached relays) error {
	payload := appendChange(j.payload[:0], c, undecided, attached)
	if cap(payload) <= keptPayloadBytes {
		j.payload = payload
	}
	j.flush()
	if j.log == nil {
		return nil
	}
	wait, err := j.log.Append(payload)
	if err != nil {
		if errors.Is(err, wal.ErrUnwritable) {
			select {
			case j.failed <- struct{}{}:
			default: // The keeper knows already.
			}
		}
		return err
	}
	c.durable = &receipt{wal: wait}
	return nil
}

// note puts a payload into the log that only says what has happened. While the log cannot be written it waits there, and
// is in doubt. If it never comes to the disk, it happens again: the change is sent once more, and the relay knows it.
func (j *journal) note(payload []byte) *receipt {
	j.flush()
	return j.put(payload)
}

func (j *journal) put(payload []byte) *receipt {
	if j.log == nil {
		return nil
	}
	wait, err := j.log.Note(payload)
	if err != nil {
		return &receipt{wal: func(context.Context) error { return err }} // The next snapshot says it instead.
	}
	return &receipt{wal: wait}
}

// restate puts a change into the journal as it is, if it is another than under its number there: what it was made of gets no new numbers.
func (j *journal) restate(c *entry) {
	if c.from == 0 {
		return
	}
	j.note(appendChange(nil, c, c.undecided, c.sent))
	c.from = 0
}

// maxVerdicts is how many verdicts wait for company at most.
const maxVerdicts = 1024

// noteSoon is note for a verdict. It is written before the next payload, or when somebody wants to know it on the disk. By
// itself it would cost a sync, and the next push would wait for that. What a crash loses of them is asked again.
func (j *journal) noteSoon(v verdict) {
	if j.log == nil {
		return
	}
	j.verdicts = append(j.verdicts, v)
	if len(j.verdicts) == maxVerdicts {
		j.flush()
	}
}

// flush puts the verdicts that wait into the log, and returns the receipt of the last of all.
func (j *journal) flush() *receipt {
	var buf [32]byte
	for _, v := range j.verdicts {
		j.recorded = j.put(appendVerdict(buf[:0], v))
	}
	j.verdicts = j.verdicts[:0]
	return j.recorded
}

// signalRecovery wakes those who wait for what was in doubt.
func (j *journal) signalRecovery() {
	close(j.recovery)
	j.recovery = make(chan struct{})
}
