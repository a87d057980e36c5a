package enrolserver

import (
	"sync"
	"time"

	"pushrelay/internal/sweepmap"

	"golang.org/x/time/rate"
)

// bucket is how often somebody may ask who has shown that they may ask at all.
type bucket struct {
	every rate.Limit
	burst int
}

var (
	// ofTokens lets an image that is started ten thousand times in at once through one token.
	ofTokens = bucket{every: 200, burst: 400}
	// ofAgents is for renewals: one in two weeks, and again where the answer was lost.
	ofAgents = bucket{every: rate.Every(10 * time.Second), burst: 5}
)

// buckets are those of tokens and agents that are known, so that there are never more than of these. It is safe for concurrent use.
type buckets struct {
	mu sync.Mutex
	of *sweepmap.Map[string, *rate.Limiter] // guarded by mu
}

func newBuckets() *buckets {
	return &buckets{of: sweepmap.New[string](isFull)}
}

// isFull says that nothing is to be remembered of a bucket.
func isFull(l *rate.Limiter) bool { return l.Tokens() >= float64(l.Burst()) }

// take reports whether whoever has that name may ask now.
func (b *buckets) take(name string, size bucket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of.Take(name, func() *rate.Limiter { return rate.NewLimiter(size.every, size.burst) }).Allow()
}
