package target_test

import (
	"math"
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

// What a target may say has bounds, and whatever it says is brought within them.
func TestClampTimes(t *testing.T) {
	const s, day = time.Second, 24 * time.Hour
	for _, tt := range []struct {
		interval, timeout, wantInterval, wantTimeout time.Duration
	}{
		{0, 0, 0, 0},
		{s, 10 * time.Millisecond, s, 10 * time.Millisecond},
		{s, s, s, s},
		{day, day, day, day},
		{0, s, 0, s},
		{s - 1, 0, s, 0},
		{-1, 0, s, 0},
		{1, 0, s, 0},
		{day + 1, 0, day, 0},
		{math.MaxInt64, math.MaxInt64, day, day},
		{math.MinInt64, math.MinInt64, s, 10 * time.Millisecond},
		{5 * s, 5*s + 1, 5 * s, 5 * s},
		{5 * s, 1, 5 * s, 10 * time.Millisecond},
		{0, day + 1, 0, day},
	} {
		interval, timeout := target.ClampTimes(tt.interval, tt.timeout)
		if interval != tt.wantInterval || timeout != tt.wantTimeout {
			t.Errorf("ClampTimes(%s, %s) = %s, %s, want %s, %s", tt.interval, tt.timeout, interval, timeout, tt.wantInterval, tt.wantTimeout)
		}
		good := tt.interval == tt.wantInterval && tt.timeout == tt.wantTimeout
		if err := target.CheckTimes(tt.interval, tt.timeout); (err == nil) != good {
			t.Errorf("CheckTimes(%s, %s) = %v", tt.interval, tt.timeout, err)
		}
	}
}
