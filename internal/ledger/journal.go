package ledger

import (
	"context"
	"errors"
	"time"
)

// A Journal keeps the records of a ledger in their order, and has a state count them. Others may write to the same records. Append is called by one
// goroutine at a time.
type Journal interface {
	// State is what the records say, those of others included. It changes while others write.
	State() *State
	// At returns which state that is: another number says that it has changed.
	At() uint64
	// Append keeps records, all of them or none, if what is kept is what the state of that number has. They count when it returns nil. The error is
	// [ErrOvertaken] if others have written meanwhile; a [*WriteError] if the records do not count; or a [*NoMajorityError].
	Append(ctx context.Context, at uint64, records []Record) error
	// Refresh has the state count all that others had written when it was called.
	Refresh(ctx context.Context) error
	// Close ends the writing.
	Close() error
}

// ErrOvertaken is what a journal says to the ledger, which decides again then.
var ErrOvertaken = errors.New("others have written to the ledger meanwhile")

// A WriteError says that the ledger could not be written, so that nothing of what was to be noted counts.
type WriteError struct{ Err error }

// Error says what failed.
func (e *WriteError) Error() string { return "writing the ledger: " + e.Err.Error() }

// Unwrap returns what failed.
func (e *WriteError) Unwrap() error { return e.Err }

// A NoMajorityError says that no majority answers of the relays that share the ledger, without which nothing is noted.
type NoMajorityError struct {
	// InDoubt says that it had been asked for, and may still come to count.
	InDoubt bool
}

// Error says what to do.
func (e *NoMajorityError) Error() string {
	if e.InDoubt {
		return "no majority of the cluster answers, so that it is not known whether the ledger has taken this: do the same again when there is one (relay-server cluster status)"
	}
	return "no majority of the cluster answers, and the ledger takes nothing without: do the same again when there is one (relay-server cluster status)"
}

// patience bounds how long it may take to note something where others write as well.
const patience = 5 * time.Second

// note has the journal keep what decide returns. It is asked again if others have written meanwhile, and before it refuses anything for good: what is
// decided is decided on all that is kept. Without a majority what is known here refuses.
func (l *Ledger) note(decide func() ([]Record, error)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	// Whoever asked may be gone before it is known what came of it.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		at := l.journal.At()
		records, err := decide()
		if err == nil {
			if err = l.journal.Append(ctx, at, records); !errors.Is(err, ErrOvertaken) {
				return err
			}
			continue
		}
		if l.journal.Refresh(ctx) != nil || l.journal.At() == at {
			return err
		}
	}
}

// leastLooked is how many records there are before it is looked whether many are over.
const leastLooked = 256

// A Sweep says when half of the records are over, so that they can be made fewer. The zero value has not looked yet. It is not safe for concurrent use.
type Sweep struct {
	// counted is how many records there were when it was asked last, next how many there are when it looks again.
	counted, next int
}

// Due reports whether that is so by now. It looks seldom, as that costs a look at each.
func (w *Sweep) Due(s *State, now time.Time, grace time.Duration) bool {
	records := s.count()
	if records < w.counted { // they were made fewer
		w.next = 0
	}
	w.counted = records
	if records < w.next || records < leastLooked {
		return false
	}
	w.next = records + max(leastLooked, records/8)
	return grace > 0 && len(s.Live(now, grace)) <= records/2
}
