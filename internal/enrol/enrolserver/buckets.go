package enrolserver

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"pushrelay/internal/sweepmap"
)

// bucket is how often somebody may ask who has shown that they may ask at all.
type bucket struct {
	every rate.Limit
	burst int
}

// ofTokens lets an image that is started ten thousand times in at once through one token.
var ofTokens = bucket{every: 200, burst: 400}

// The bounds of how soon an agent has one more renewal, and how many it has at once.
const (
	soonestRenewal = 10 * time.Second
	latestRenewal  = 30 * time.Minute
	renewalsAtOnce = 16
)

// ofAgents is for renewals: one in half of a certificate's life, and again where the answer was lost or could not be kept. An agent asks then after a
// minute, and ever later up to an hour, and of a short life up to a twentieth of it, which is less than it has here. Each is in the ledger until long after
// its end: of one that asks all the time 48 a day, with the lives that are usual.
func ofAgents(life time.Duration) bucket {
	return bucket{every: rate.Every(min(max(life/1440, soonestRenewal), latestRenewal)), burst: renewalsAtOnce}
}

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
