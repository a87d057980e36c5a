package tunnelclient

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/tunnel"
)

// TestPace: whoever begins as soon as may be begins no more often than once a second, on average over ten seconds; whoever begins less often
// never waits.
func TestPace(t *testing.T) {
	for _, most := range []time.Duration{0, 10 * time.Millisecond, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var p pace
			var begun []time.Time
			for range 100 {
				if most > 0 {
					time.Sleep(rand.N(most))
				}
				time.Sleep(p.left(time.Now()))
				p.begin(time.Now())
				begun = append(begun, time.Now())
			}
			for i := tunnel.AttachBurst; i < len(begun); i++ {
				if took := begun[i].Sub(begun[i-tunnel.AttachBurst]); took < tunnel.AttachWindow {
					t.Errorf("after waits of up to %s, attempts %d to %d took %s", most, i-tunnel.AttachBurst, i, took)
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var p pace
		for i := range 100 {
			if left := p.left(time.Now()); left > 0 {
				t.Errorf("attempt %d waits %s", i, left)
			}
			p.begin(time.Now())
			time.Sleep(time.Second)
		}
	})
}
