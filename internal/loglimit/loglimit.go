// Package loglimit bounds what others can make a program log.
//
// Each peer has a few lines at once and then one every ten seconds; those that are left out are counted, and the next line that is
// logged says how many there were. What stands in a line has its bound where it came in. Start reading at [Limiter].
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burst is how many lines a peer has at once, and every how long it takes for one more.
	burst = 20
	every = 10 * time.Second
	// leastKept is how many peers are remembered before those are looked for that have all their lines again.
	leastKept = 64
)

// Limiter bounds the lines about each peer. It is safe for concurrent use; nil is not a limiter.
type Limiter struct {
	mu      sync.Mutex
	peers   map[string]*peer // guarded by mu
	sweepAt int              // guarded by mu; how many peers there are when it is looked next
}

// peer is guarded by Limiter.mu.
type peer struct {
	lines      *rate.Limiter
	suppressed int
}

// New returns a limiter.
func New() *Limiter { return &Limiter{peers: map[string]*peer{}, sweepAt: leastKept} }

// Log logs a line about a peer, or counts it. The name of the peer is not logged. There must not be more names than those of peers that are
// known: whoever can choose a name has no bound.
func (l *Limiter) Log(logger *slog.Logger, level slog.Level, name, message string, attrs ...slog.Attr) {
	suppressed, ok := l.take(name)
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	logger.LogAttrs(context.Background(), level, message, attrs...) //nolint:sloglint // The messages of callers are constant.
}

// take reports whether a line may be logged, and how many were left out since the last.
func (l *Limiter) take(name string) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[name]
	if p == nil {
		l.sweep()
		p = &peer{lines: rate.NewLimiter(rate.Every(every), burst)}
		l.peers[name] = p
	}
	if !p.lines.Allow() {
		p.suppressed++
		return 0, false
	}
	suppressed, p.suppressed = p.suppressed, 0
	return suppressed, true
}

// sweep forgets the peers of which nothing is to be remembered, when there are twice as many as it left the last time.
func (l *Limiter) sweep() {
	if len(l.peers) < l.sweepAt {
		return
	}
	for name, p := range l.peers {
		if p.suppressed == 0 && p.lines.Tokens() >= burst {
			delete(l.peers, name)
		}
	}
	l.sweepAt = max(leastKept, 2*len(l.peers))
}
