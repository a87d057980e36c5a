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

// append puts a payload into the journal. An error means that it was not taken.
func (s *Spool) append(payload []byte) (*receipt, error) {
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

// note puts a payload into the journal that only says what has happened. If the journal cannot be written, the snapshot that
// ends this says it instead; if that never comes, it happens again: the change is sent once more, and the relay knows it.
func (s *Spool) note(payload []byte) *receipt {
	r, err := s.append(payload)
	if err != nil {
		return &receipt{wal: func(context.Context) error { return err }}
	}
	return r
}
