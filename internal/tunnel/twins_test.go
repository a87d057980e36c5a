package tunnel_test

import (
	"testing"
	"time"
)

// TestTwinsAreAConflictInTime: two processes with one identity, as of a machine that was cloned. However long the one that
// lost the session waits, it shows within two minutes of the second's coming (T3).
func TestTwinsAreAConflictInTime(t *testing.T) {
	conflict := func(h *house) bool {
		known := h.registry.Agents()
		return len(known) == 1 && known[0].Conflict
	}
	for range 10 {
		inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, _ *network) {
			h.start(h.authority, "site", scraperFunc(nil))
			waitFor(t, "attached", 5*time.Second, func() bool { return h.connected("site") })
			time.Sleep(time.Minute)
			if conflict(h) {
				t.Error("one process is a conflict")
			}
			h.start(h.authority, "site", scraperFunc(nil))
			waitFor(t, "a conflict", 2*time.Minute, func() bool { return conflict(h) })
		})
	}
}

// TestSuccessorsAreNoConflict: an agent that is started anew, again and again, while its last session has not ended yet.
func TestSuccessorsAreNoConflict(t *testing.T) {
	inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, n *network) {
		for range 5 {
			_, stop := h.start(h.authority, "site", scraperFunc(nil))
			time.Sleep(10 * time.Second)
			n.set(swallowing) // It dies without a word.
			stop()
			n.set(carrying)
		}
		if h.registry.Agents()[0].Conflict {
			t.Error("processes that follow each other are called a conflict")
		}
	})
}
