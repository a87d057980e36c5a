package shared

import (
	"context"
	"time"
)

// Compact writes what is not over anew, as when half of the records are.
func (j *Journal) Compact(ctx context.Context, now time.Time) error { return j.compact(ctx, now) }
