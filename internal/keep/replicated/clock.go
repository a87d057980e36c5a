package replicated

import (
	"sync/atomic"
	"time"
)

// A clock is the cluster's: the leader's, which never goes back, whoever leads (C9). It is safe for concurrent use.
type clock struct {
	wall func() time.Time // static

	latest atomic.Int64 // that anything was decided or written by, as far as it is known here
	shown  atomic.Int64 // of what the store shows
}

// tick returns the leader's time. It stands still while the wall clock is behind a time that was told before.
func (c *clock) tick() time.Time {
	return time.Unix(0, raise(&c.latest, c.wall().UnixNano()))
}

// learn takes note of a time that a leader has written.
func (c *clock) learn(at int64) { raise(&c.latest, at) }

// show has everything judged by that time which is shown from now on. What was decided until then must be in the store: something might
// seem late that is not.
func (c *clock) show(at int64) { raise(&c.shown, at) }

// raise makes v at least n, and returns what it is then.
func raise(v *atomic.Int64, n int64) int64 {
	for {
		old := v.Load()
		if old >= n {
			return old
		}
		if v.CompareAndSwap(old, n) {
			return n
		}
	}
}

// Now is the clock by which the store decides. A member that does not lead decides nothing.
func (k *Keep) Now() time.Time {
	if k.Leads() {
		return k.clock.tick()
	}
	return time.Unix(0, k.clock.latest.Load())
}

// Clock returns the cluster's time as this member shows it: that of the last position which its copy has. Without a leader it stands still.
func (k *Keep) Clock() time.Time { return time.Unix(0, k.clock.shown.Load()) }
