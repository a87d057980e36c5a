package tunnelserver

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGate: those that wait for the other side make room after a while, the one that has waited longest first; those that wait for their
// turn do not, and then those that come wait.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(3)
		stop := make(chan struct{})
		conn := func() net.Conn {
			c, other := net.Pipe()
			t.Cleanup(func() { c.Close(); other.Close() })
			return c
		}
		closed := func(c net.Conn) bool {
			return c.SetDeadline(time.Time{}) != nil
		}
		enter := func(c net.Conn) time.Duration {
			begun := time.Now()
			if !g.enter(c, stop) {
				t.Fatal("it was not let in")
			}
			return time.Since(begun)
		}
		first, second, third := conn(), conn(), conn()
		for _, c := range []net.Conn{first, second, third} {
			if waited := enter(c); waited > 0 {
				t.Errorf("it waited %v though there was room", waited)
			}
		}
		g.awaits(second, time.Now())
		time.Sleep(time.Second)
		g.awaits(first, time.Now())
		fourth := conn()
		if waited := enter(fourth); waited != patienceWithUnknown-time.Second || !closed(second) || closed(first) || closed(third) {
			t.Errorf("it waited %v; closed are %v, %v, %v", waited, closed(first), closed(second), closed(third))
		}
		g.leave(second) // its handshake failed
		g.awaits(first, time.Time{})
		var coming sync.WaitGroup
		coming.Go(func() {
			if waited := enter(conn()); waited != time.Minute {
				t.Errorf("it waited %v while all were computing, want until one had left", waited)
			}
		})
		time.Sleep(time.Minute)
		g.leave(third)
		coming.Wait()
		coming.Go(func() {
			if g.enter(conn(), stop) {
				t.Error("it was let in at the end")
			}
		})
		time.Sleep(time.Minute)
		close(stop)
		coming.Wait()
	})
}
