package loglimit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// kindBurst is how many lines of a kind there are at once, and kindEvery how long it takes for one more, whomever they are about.
	kindBurst = 10
	kindEvery = time.Second
	// maxStrangers bounds who is remembered: anybody can come, from as many addresses as they have.
	maxStrangers = 4096
)

// Strangers bounds the lines about those who are not known: of each kind and each of them seldom enough that none hides another. It is safe for
// concurrent use.
type Strangers struct {
	mu    sync.Mutex
	kinds map[string]*rate.Limiter // guarded by mu
	said  map[stranger]*saying     // guarded by mu
}

// stranger is what makes one line the same as another.
type stranger struct{ kind, who string }

// saying is when a line was logged last, and how often it was due since.
type saying struct {
	at     time.Time
	missed int
}

// NewStrangers returns bounds by which nothing was logged yet.
func NewStrangers() *Strangers {
	return &Strangers{kinds: map[string]*rate.Limiter{}, said: map[stranger]*saying{}}
}

// Due says whether a line is to be logged now, and how many of its kind about them were not since the last time; silence is how long they have to
// wait for the next. There must be few kinds, and no stranger may choose one.
func (s *Strangers) Due(kind, who string, silence time.Duration) (missed int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds[kind] == nil {
		s.kinds[kind] = rate.NewLimiter(rate.Every(kindEvery), kindBurst)
	}
	now, key := time.Now(), stranger{kind, who}
	last, known := s.said[key]
	if known && now.Sub(last.at) < silence || !s.kinds[kind].AllowN(now, 1) {
		if known {
			last.missed++
		}
		return 0, false
	}
	if !known {
		if len(s.said) >= maxStrangers {
			clear(s.said) // the limit of the kind is left
		}
		last = &saying{}
		s.said[key] = last
	}
	missed = last.missed
	*last = saying{at: now}
	return missed, true
}
