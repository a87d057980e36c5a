package tunnelserver

import (
	"testing"
	"time"

	"pushrelay/internal/tunnel"
)

// TestHeartbeatsFallOnTicks: whenever sessions began, their heartbeats are sent at the same moments, in time and not all in one.
func TestHeartbeatsFallOnTicks(t *testing.T) {
	const earliest, latest = tunnel.HeartbeatInterval - tunnel.HeartbeatTick, tunnel.HeartbeatInterval + tunnel.HeartbeatJitter
	ticks := map[time.Duration]bool{}
	for n := range 1000 {
		now := time.Now().Add(time.Duration(n) * 37 * time.Millisecond)
		wait := untilBeat(now)
		if wait < earliest || wait > latest {
			t.Fatalf("the next heartbeat after %v, want %v to %v", wait, earliest, latest)
		}
		if off := now.Add(wait).UnixNano() % int64(tunnel.HeartbeatTick); off != 0 {
			t.Fatalf("a heartbeat %v after a tick", time.Duration(off))
		}
		ticks[wait.Truncate(tunnel.HeartbeatTick)] = true
	}
	if len(ticks) < 20 {
		t.Errorf("1000 heartbeats fall into %d spans of %v, want them spread over %v", len(ticks), tunnel.HeartbeatTick, tunnel.HeartbeatJitter)
	}
}
