// Package monotonic is for moments that one goroutine notes and others look at: when a byte came last, since when a write
// waits; and for waits that end with a context. It does not go by the wall clock, which may be set.
package monotonic

import (
	"cmp"
	"sync/atomic"
	"time"
)

// epoch is what moments are counted from. It is never written to.
var epoch = time.Now()

// Time is a moment. The zero value is none. It is safe for concurrent use and must not be copied.
type Time struct {
	sinceEpoch atomic.Int64 // nanoseconds; 0 for none
}

// SetNow makes it the present.
func (t *Time) SetNow() { t.Set(time.Now()) }

// Set makes it a moment that has a monotonic clock reading, such as a later one.
func (t *Time) Set(at time.Time) { t.sinceEpoch.Store(cmp.Or(int64(at.Sub(epoch)), 1)) }

// Clear makes it none.
func (t *Time) Clear() { t.sinceEpoch.Store(0) }

// Load returns the moment with its monotonic clock reading, and the zero time for none. It is meant to be compared with
// other times: once the wall clock was set, it does not say what the clock said at that moment.
func (t *Time) Load() time.Time {
	since := t.sinceEpoch.Load()
	if since == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(since))
}
