package target_test

import (
	"testing"
	"time"

	"pushrelay/internal/target"
)

// Prometheus takes a pair or neither half, and a timeout up to the interval.
func TestFitTimes(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		interval, timeout, wantInterval, wantTimeout time.Duration
	}{
		{0, 0, 0, 0},
		{5 * s, 0, 5 * s, 5 * s},
		{10 * s, 0, 10 * s, 10 * s},
		{60 * s, 0, 60 * s, 10 * s},
		{0, 5 * s, 0, 0},
		{30 * s, 20 * s, 30 * s, 20 * s},
		{5 * s, 20 * s, 5 * s, 5 * s},
		{time.Microsecond, 0, 0, 0}, // Prometheus would be told 0s
		{s, time.Microsecond, s, s},
	} {
		interval, timeout := target.FitTimes(tt.interval, tt.timeout, target.DefaultScrapeTimeout)
		if interval != tt.wantInterval || timeout != tt.wantTimeout {
			t.Errorf("FitTimes(%s, %s) = %s, %s, want %s, %s", tt.interval, tt.timeout, interval, timeout, tt.wantInterval, tt.wantTimeout)
		}
	}
}
