package enrolserver

import (
	"sync"
	"time"

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

// leastBuckets is how many buckets are kept before those are looked for that are full.
const leastBuckets = 64

// buckets are those of tokens and agents that are known, so that there are never more than of these. It is safe for concurrent use.
type buckets struct {
	mu      sync.Mutex
	of      map[string]*rate.Limiter // guarded by mu
	sweepAt int                      // guarded by mu; how many there are when it is looked next
}

func newBuckets() *buckets {
	return &buckets{of: map[string]*rate.Limiter{}, sweepAt: leastBuckets}
}

// take reports whether whoever has that name may ask now.
func (b *buckets) take(name string, size bucket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.of[name]
	if l == nil {
		b.sweep()
		l = rate.NewLimiter(size.every, size.burst)
		b.of[name] = l
	}
	return l.Allow()
}

// sweep forgets the buckets that are full, when there are twice as many as it left the last time. The caller holds mu.
func (b *buckets) sweep() {
	if len(b.of) < b.sweepAt {
		return
	}
	for name, l := range b.of {
		if l.Tokens() >= float64(l.Burst()) {
			delete(b.of, name)
		}
	}
	b.sweepAt = max(leastBuckets, 2*len(b.of))
}
