package spool

import "context"

// Snapshot makes a snapshot now.
func (s *Spool) Snapshot(ctx context.Context) error { return s.snapshot(ctx) }
