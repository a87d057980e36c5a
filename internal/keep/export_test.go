package keep

import "context"

// Snapshot writes one now.
func (d *Disk) Snapshot(ctx context.Context) error { return d.snapshot(ctx) }
