package spool

import "context"

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
