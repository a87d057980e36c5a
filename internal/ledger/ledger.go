// Package ledger is what the relay knows of who may come in: which certificates its authority issued to agents, by what, who was thrown out, and
// the join tokens that are out (I1, I6, I8).
//
// It promises that a revocation which was taken counts from then on, over every restart: a record is kept before it counts. Where it is kept is up to a
// [Journal]: the file of this package, whose last record is dropped and told if it was never written whole, and which is refused, never shortened, if it is
// damaged anywhere else; or what is shared by relays that are one service. One decision, [State.Refuses], is that of handshakes, sessions and pushes alike.
// What was issued before or after a revocation is told by the order of the records, and by no date: certificates are backdated, and clocks are set.
//
// A token is spent by the very record that notes what was issued for it, so that no use is lost and none is counted for nothing.
//
// It knows no connections, no authority and no secret, takes the time from its callers, and starts nothing. Start reading at [Open], then [State] and [Journal].
package ledger

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"pushrelay/internal/wal"
)

// The files of a ledger in a data dir. The marker says that there was a ledger, so that one which gets lost is missed; the lock is held
// by whoever may write.
const (
	fileName   = "ledger.jsonl"
	markerName = "ledger.made"
	lockName   = "ledger.lock"
)

// lockPatience is how long Open waits for the lock: a command has it for a moment, a relay for its life.
const lockPatience = 3 * time.Second

// Config is what a ledger needs.
type Config struct {
	// Dir is the data dir. Required.
	Dir string
	// Release is written into the file, for people who meet it with another one.
	Release string
	// NoLock does without the lock, for file systems that have none.
	NoLock bool
	// Grace is how long after a certificate's end it may be renewed, and stays in the ledger (I5); 0 for whoever does not know: nothing is dropped then.
	Grace time.Duration
}

// A Ledger decides what is noted, and has a [Journal] keep it. It is safe for concurrent use.
type Ledger struct {
	*State

	// Static after construction.
	journal Journal
	grace   time.Duration

	writing sync.Mutex // held while it is decided what is noted, and until that is kept
}

// Exists reports whether a data dir has a ledger, or had one. It says yes where it cannot tell.
func Exists(dir string) bool { return isThere(dir, fileName) || isThere(dir, markerName) }

func isThere(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// Open opens the ledger of a data dir for writing, which this process alone does. One that has none yet gets it with the first record. The error is a
// [*LockedError] while another process has it open, a [*DamagedError], or a datadir.NewerError.
func Open(cfg Config) (*Ledger, error) {
	f, err := openFileJournal(cfg)
	if err != nil {
		return nil, err
	}
	return On(f, cfg.Grace), nil
}

// On returns a ledger whose records are kept by a journal. Grace is that of [Config].
func On(j Journal, grace time.Duration) *Ledger {
	return &Ledger{State: j.State(), journal: j, grace: grace}
}

// Read returns what the ledger of a data dir says at this moment, whoever writes it; nothing for a data dir without one.
func Read(dir string) (*State, error) {
	content, err := readFile(dir)
	if err != nil {
		return nil, err
	}
	return content.state(), nil
}

// Close ends the writing.
func (l *Ledger) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.journal.Close()
}

// A LockedError says that another process has the ledger open.
type LockedError struct{ err error }

// Error names the process, as far as that is known.
func (e *LockedError) Error() string { return "the ledger is in use: " + e.err.Error() }

// Unwrap returns the error of the lock.
func (e *LockedError) Unwrap() error { return e.err }

// takeLock waits a while for whoever has the lock. It returns nil where there may be none.
func (cfg *Config) takeLock() (io.Closer, error) {
	const pause = 20 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		lock, err := wal.TakeLock(filepath.Join(cfg.Dir, lockName))
		if errors.Is(err, wal.ErrNoLocks) && cfg.NoLock {
			return nil, nil
		}
		if _, locked := errors.AsType[*wal.LockedError](err); !locked {
			return lock, err
		}
		if waited >= lockPatience {
			return nil, &LockedError{err}
		}
		<-time.After(pause)
	}
}
