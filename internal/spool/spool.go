package spool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/wal"
)

// retryUnwritable and retryFull are when a push may be tried again that was not accepted.
const (
	retryUnwritable = 10 * time.Second
	retryFull       = 30 * time.Second
)

// Config says where a spool is kept and what it accepts.
type Config struct {
	// Dir is the directory of the journal and of nothing else; it is created if it is missing. An empty one keeps the spool
	// in memory: what waits is lost with the process.
	Dir string
	// Agent is the identity of the agent, which relays add to grouping keys (T20).
	Agent string
	// Relays are the configured addresses, at least one and at most [MaxRelays]. What waits for others is dropped.
	Relays []string
	// MaxBytes bounds what the spool holds, bodies compressed; 0 means no limit. A full spool accepts nothing more.
	MaxBytes int64
	// Wait is how long a push waits for the verdicts of the relays. Required.
	Wait time.Duration
	// Limits bound each push, whatever the relays allow.
	Limits exposition.Limits
	// Release is written into the journal, for people who meet it with another one.
	Release string
	// NoLock does without the lock on the directory; see [wal.Config].
	NoLock bool
	// SegmentBytes is the size of the files that the journal consists of; 0 means 16 MiB.
	SegmentBytes int64
	// FS is the file system; nil means that of the operating system.
	FS wal.FS
	// Logger is required.
	Logger *slog.Logger
	// Registerer gets the metrics of the spool. Required.
	Registerer prometheus.Registerer
}

// MaxRelays is the number of relays that can be configured: half of those that can be told apart, so that some that have gone
// may be remembered.
const MaxRelays = maxRelays / 2

// Spool is what the package is about. It is made by [New], and accepts pushes once [Spool.Recover] has returned. It is safe for
// concurrent use.
type Spool struct {
	// Static after Recover.
	cfg     Config
	metrics *metrics
	parsers parsers

	// mu guards everything below and what is said to be guarded by it elsewhere. It is locked before the log's own lock.
	mu         sync.Mutex
	journal    journal
	groups     groups
	cursors    cursors
	door       door
	away       absences
	rejections rejections
}

// New returns a spool that is not recovered yet. Nothing is opened.
func New(cfg Config) *Spool {
	s := &Spool{cfg: cfg, journal: newJournal(&cfg), away: absences{}}
	s.door = newDoor(&cfg, &s.parsers, &s.journal)
	s.groups = groups{maxBytes: cfg.MaxBytes, parsers: &s.parsers, check: s.door.checkSum, slots: &s.cursors.slots, byKey: map[grouping.Key]*group{}}
	s.metrics = newMetrics(cfg.Registerer, s)
	s.cursors = cursors{logger: cfg.Logger, resets: s.metrics.resets, journal: &s.journal, groups: &s.groups}
	return s
}

// Apply accepts a push of a local job, or of the agent itself, which is its owner then. It implements push.Applier.
//
// A push that is accepted is on the disk. Apply waits for the verdicts of the relays that are attached, as long as
// [Config].Wait. The outcome is Applied if all of them have the push, Spooled with the reason if it is still pending at one. A
// refusal of a relay is returned, and then the push is withdrawn from the others.
func (s *Spool) Apply(ctx context.Context, r *change.Change) change.Outcome {
	s.mu.Lock()
	demanded, holds := s.door.demands(), s.groups.byKey[r.Key] != nil
	s.mu.Unlock()
	families, err := s.door.check(&demanded, holds, r)
	if errors.Is(err, change.Inconsistent) {
		s.noteFailure(r)
	}
	if err != nil {
		return change.OutcomeOf(err)
	}
	c := &entry{
		operation: r.Operation, format: r.Format, body: compress(r.Body), bodyBytes: len(r.Body), families: families,
		pushedAt: r.At, owner: r.Owner, digest: change.DigestOf(r),
	}
	if r.Operation.HasBody() {
		c.life, c.failed, c.gauges = r.Life, r.Failed, r.Gauges
	}
	if err := s.accept(r.Key, c, answered); err != nil {
		return change.OutcomeOf(err)
	}
	return s.await(ctx, c)
}

// noteFailure journals that a push was refused here for which a Pushgateway would set the group's failure time (T19). It does
// not wait for the disk.
func (s *Spool) noteFailure(r *change.Change) {
	c := &entry{operation: change.Fail, pushedAt: r.At}
	c.digest = change.DigestOf(&change.Change{Operation: change.Fail, Key: r.Key})
	if err := s.accept(r.Key, c, unanswered); err != nil {
		s.cfg.Logger.Debug("the failure time of a group is not noted", slog.String("grouping_key", r.Key.String()), slog.Any("err", err))
	}
}

// interest says whether somebody waits for the relays' verdicts on a change.
type interest int

const (
	answered interest = iota
	unanswered
)

// accept gives a change its number and puts it into the journal and into its group. An error means that it is in neither.
func (s *Spool) accept(key grouping.Key, c *entry, who interest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups.byKey[key]
	if g == nil {
		g = &group{key: key}
	}
	if !s.groups.fits(g, c) {
		s.metrics.full.Inc()
		return noRoom()
	}
	c.group, c.sequence = g, s.journal.sequence+1
	attached, known := s.cursors.attached(), s.cursors.known()
	if err := s.journal.add(c, known, attached); err != nil {
		return notKept(err)
	}
	if who == answered && attached != 0 {
		c.answer = &answer{waiting: attached, done: make(chan struct{}), reasons: s.cursors.atCopies()}
	}
	s.journal.sequence = c.sequence
	s.groups.insert(c, known)
	s.groups.compact(g)
	s.groups.trimDeletions()
	for cur := range s.cursors.all() {
		cur.enqueue(g)
		if g.held.has(cur.slot) {
			cur.tellHeld(c)
		}
	}
	return nil
}

// Owned returns the groups whose newest accepted push was by the owner, and that push's digest.
func (s *Spool) Owned(owner string) map[grouping.Key]change.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	owned := map[grouping.Key]change.Digest{}
	for key, g := range s.groups.byKey {
		if c := g.newest(); c != nil && c.owner == owner && c.operation == change.Replace {
			owned[key] = c.digest
		}
	}
	return owned
}

// Retraction returns what takes back all that pushes to a group have said of its life, as far as the spool knows of them; also what was taken
// back already.
func (s *Spool) Retraction(key grouping.Key) (r lifetime.Declaration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups.byKey[key]; g != nil {
		for _, c := range g.changes {
			r = r.Then(c.life.Retraction())
		}
	}
	return r
}

// Journal returns the id of the journal.
func (s *Spool) Journal() JournalID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.id
}

// Failure returns why the spool accepts nothing, nil if it does.
func (s *Spool) Failure() error { return s.journal.failure() }

// Losses returns what the spool has lost, or may have, and nobody has acknowledged.
func (s *Spool) Losses() []wal.Loss { return s.journal.losses() }

// Close makes durable what is not yet, and unlocks the directory. Run must have returned and nothing may be pushed any more.
func (s *Spool) Close() error {
	if s.journal.log == nil {
		return nil
	}
	s.mu.Lock()
	s.journal.flush()
	s.mu.Unlock()
	return s.journal.log.Close()
}
