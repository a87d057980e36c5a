package storelog

import "context"

// Snapshot writes one now.
func (l *Log) Snapshot(ctx context.Context) error { return l.snapshot(ctx) }
