package relay

import (
	"sync/atomic"
	"time"

	"pushrelay/internal/roster"
)

// presence tells the store which agents are gone (L7). An agent that was there when the relay ended has time to come back from when the relay is
// ready.
type presence struct {
	agents  *roster.Registry
	readyAt atomic.Pointer[time.Time] // nil until the relay is ready
}

// Present says whether the agent is connected, and if not, since when it is gone.
func (p *presence) Present(agent string) (present bool, gone time.Time) {
	ready := p.readyAt.Load()
	if ready == nil {
		return true, time.Time{} // nobody can have come yet
	}
	connected, last := p.agents.LastSign(agent)
	if last.Before(*ready) {
		last = *ready
	}
	return connected, last
}
