package target

import (
	"fmt"
	"time"

	"github.com/prometheus/common/model"
)

// What a target may say of how it is scraped. Less would be load that a stranger puts on Prometheus, more a target that is never seen.
const (
	MinScrapeInterval = time.Second
	MaxScrapeInterval = 24 * time.Hour
	// MinScrapeTimeout is the least timeout; the interval is the largest one.
	MinScrapeTimeout = 10 * time.Millisecond
)

// CheckTimes returns an error unless the times are such as [ClampTimes] returns. 0 is none.
func CheckTimes(interval, timeout time.Duration) error {
	fitInterval, fitTimeout := ClampTimes(interval, timeout)
	switch {
	case fitInterval != interval:
		return fmt.Errorf("scrape_interval is %s, want %s to %s", model.Duration(interval), model.Duration(MinScrapeInterval), model.Duration(MaxScrapeInterval))
	case fitTimeout > timeout:
		return fmt.Errorf("scrape_timeout is %s, want %s or more", model.Duration(timeout), model.Duration(MinScrapeTimeout))
	case fitTimeout < timeout:
		return fmt.Errorf("scrape_timeout is %s, longer than the scrape_interval or %s", model.Duration(timeout), model.Duration(MaxScrapeInterval))
	}
	return nil
}

// ClampTimes returns the times that are nearest to those given and may be announced. 0 is none, and stays.
func ClampTimes(interval, timeout time.Duration) (fitInterval, fitTimeout time.Duration) {
	longest := MaxScrapeInterval
	if interval != 0 {
		interval = min(max(interval, MinScrapeInterval), MaxScrapeInterval)
		longest = interval
	}
	if timeout != 0 {
		timeout = min(max(timeout, MinScrapeTimeout), longest)
	}
	return interval, timeout
}

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
