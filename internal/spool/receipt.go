package spool

import (
	"context"
	"errors"

	"pushrelay/internal/wal"
)

// receipt says when something that was put into the journal is on the disk. A nil receipt, and one of a spool in memory, says
// that there is nothing to wait for.
type receipt struct {
	wal func(context.Context) error
}

func (r *receipt) wait(ctx context.Context) error {
	if r == nil {
		return nil
	}
	return r.wal(ctx)
}

// append puts a payload into the journal, behind all verdicts so far. An error means that it was not taken.
func (s *Spool) append(payload []byte) (*receipt, error) {
	s.writeVerdicts()
	if s.log == nil {
		return nil, nil
	}
	wait, err := s.log.Append(payload)
	if err != nil {
		if errors.Is(err, wal.ErrUnwritable) {
			select {
			case s.failed <- struct{}{}:
			default: // The keeper knows already.
			}
		}
		return nil, err
	}
	return &receipt{wal: wait}, nil
}

// note puts a payload into the journal that only says what has happened. While the journal cannot be written it waits there, and
// is in doubt; if it never comes to the disk, it happens again: the change is sent once more, and the relay knows it.
func (s *Spool) note(payload []byte) *receipt {
	s.writeVerdicts()
	return s.put(payload)
}

func (s *Spool) put(payload []byte) *receipt {
	if s.log == nil {
		return nil
	}
	wait, err := s.log.Note(payload)
	if err != nil {
		return &receipt{wal: func(context.Context) error { return err }} // The next snapshot says it instead.
	}
	return &receipt{wal: wait}
}

// maxVerdicts is how many verdicts wait for company at most.
const maxVerdicts = 1024

// noteSoon is note for a verdict. It is written before the next payload, or when somebody wants to know it on the disk: by
// itself it would cost a sync, for which the next push had to wait. What is lost of them in a crash is asked again.
func (s *Spool) noteSoon(v verdict) {
	if s.log == nil {
		return
	}
	s.verdicts = append(s.verdicts, v)
	if len(s.verdicts) == maxVerdicts {
		s.writeVerdicts()
	}
}

// writeVerdicts puts the verdicts that wait into the journal, and returns the receipt of the last of all.
func (s *Spool) writeVerdicts() *receipt {
	var buf [32]byte
	for _, v := range s.verdicts {
		s.recorded = s.put(appendVerdict(buf[:0], v))
	}
	s.verdicts = s.verdicts[:0]
	return s.recorded
}
