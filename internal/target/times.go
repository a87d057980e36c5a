package target

import "time"

// DefaultScrapeTimeout is Prometheus' own.
const DefaultScrapeTimeout = 10 * time.Second

// leastDuration is the smallest that Prometheus can be told.
const leastDuration = time.Millisecond

// FitTimes returns the pair that Prometheus can be told for a target with these settings, of which 0 is none. Half of a pair
// would meet the other half in Prometheus' own job, and a timeout that is longer than the interval makes Prometheus throw the
// target away, without up or any other sign. So an interval alone gets the default timeout, or itself if it is shorter; a
// timeout alone is left out.
func FitTimes(interval, timeout, defaultTimeout time.Duration) (fitInterval, fitTimeout time.Duration) {
	if interval < leastDuration {
		return 0, 0
	}
	if timeout < leastDuration {
		timeout = defaultTimeout
	}
	return interval, min(timeout, interval)
}
