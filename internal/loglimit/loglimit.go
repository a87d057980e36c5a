// Package loglimit bounds what others can make a program log.
//
// Each peer has a few lines at once and then one every ten seconds; those that are left out are counted, and the next line that is
// logged says how many there were. Of those who are not known, see [Strangers]. What stands in a line has its bound where it came in. Start reading at [Limiter].
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"pushrelay/internal/sweepmap"
)

const (
	// burst is how many lines a peer has at once, and every how long it takes for one more.
	burst = 20
	every = 10 * time.Second
)

// Limiter bounds the lines about each peer. It is safe for concurrent use; nil is not a limiter.
type Limiter struct {
	mu    sync.Mutex
	peers *sweepmap.Map[string, *peer] // guarded by mu
}

// peer is guarded by Limiter.mu.
type peer struct {
	lines      *rate.Limiter
	suppressed int
}

// New returns a limiter.
func New() *Limiter { return &Limiter{peers: sweepmap.New[string]((*peer).isQuiet)} }

// isQuiet says that nothing is to be remembered of the peer: it has all its lines, and none was left out. The caller holds Limiter.mu.
func (p *peer) isQuiet() bool { return p.suppressed == 0 && p.lines.Tokens() >= burst }

func newPeer() *peer { return &peer{lines: rate.NewLimiter(rate.Every(every), burst)} }

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
	p := l.peers.Take(name, newPeer)
	if !p.lines.Allow() {
		p.suppressed++
		return 0, false
	}
	suppressed, p.suppressed = p.suppressed, 0
	return suppressed, true
}
