package tunnelserver

import (
	"runtime/debug"
	"sync"
	"time"
)

// A storm of agents leaves garbage: a handshake takes 150 KiB of memory, a session a fifth of it. The runtime would keep
// what it got from the system for minutes, and for 10,000 agents that is most of what the relay holds.
const (
	// calmAfter is how long no agent attaches until a storm counts as over.
	calmAfter = 10 * time.Second
	// stormOf is how many agents make a storm.
	stormOf = 100
)

// storm notices the end of a storm of agents and gives the memory back that it took.
type storm struct {
	mu       sync.Mutex
	attached int         // guarded by mu; since the last look
	total    int         // guarded by mu; in this storm
	look     *time.Timer // guarded by mu; nil while calm
}

// attach counts an agent that attached.
func (s *storm) attach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attached++
	if s.look == nil {
		s.look = time.AfterFunc(calmAfter, s.lookAround)
	}
}

func (s *storm) lookAround() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.look == nil {
		return
	}
	s.total += s.attached
	if s.attached > 0 {
		s.attached = 0
		s.look.Reset(calmAfter)
		return
	}
	if s.total >= stormOf {
		debug.FreeOSMemory()
	}
	s.total, s.look = 0, nil
}

// stop forgets the storm.
func (s *storm) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.look != nil {
		s.look.Stop()
		s.look = nil
	}
}
