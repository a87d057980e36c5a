package monotonic_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/monotonic"
)

func TestTime(t *testing.T) {
	var at monotonic.Time
	if got := at.Load(); !got.IsZero() {
		t.Errorf("Load() of the zero value = %v, want the zero time", got)
	}
	before := time.Now()
	at.SetNow()
	after := time.Now()
	got := at.Load()
	if got.Before(before) || got.After(after) {
		t.Errorf("Load() = %v, want a time from %v to %v", got, before, after)
	}
	if !strings.Contains(got.String(), "m=+") {
		t.Errorf("Load() = %v, which has no monotonic reading", got)
	}
	at.Clear()
	if got := at.Load(); !got.IsZero() {
		t.Errorf("Load() after Clear() = %v, want the zero time", got)
	}
}

// TestFakeClock: a bubble's clock has no monotonic reading, and is behind that of the process.
func TestFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at monotonic.Time
		at.SetNow()
		set := time.Now()
		time.Sleep(time.Minute)
		if got := at.Load(); !got.Equal(set) || time.Since(got) != time.Minute {
			t.Errorf("Load() = %v, %v ago, want %v", got, time.Since(got), set)
		}
	})
}
