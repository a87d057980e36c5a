package tunnelclient

import (
	"time"

	"pushrelay/internal/tunnel"
)

// pace bounds how often a link begins an attempt. What ends attempts and sessions is up to others; what that costs the agent, its network and
// its log is not.
type pace struct {
	begun [tunnel.AttachBurst]time.Time // the last attempts, in a ring
	next  int                           // the oldest of them
}

// begin notes an attempt.
func (p *pace) begin(now time.Time) {
	p.begun[p.next] = now
	p.next = (p.next + 1) % len(p.begun)
}

// left is how long the next attempt has to wait.
func (p *pace) left(now time.Time) time.Duration {
	oldest := p.begun[p.next]
	if oldest.IsZero() {
		return 0
	}
	return max(0, tunnel.AttachWindow-now.Sub(oldest))
}
