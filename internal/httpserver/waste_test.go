package httpserver_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/httpserver"
)

// TestWaste: a connection with few calls that come to nothing is always read, one with many as slowly as they may come, and at once when it is
// closed.
func TestWaste(t *testing.T) {
	rests := func(w *httpserver.Waste) time.Duration {
		begun := time.Now()
		w.Rest()
		return time.Since(begun)
	}
	synctest.Test(t, func(t *testing.T) {
		w := httpserver.NewWaste()
		for range 512 {
			w.Add()
		}
		if rested := rests(w); rested != 0 {
			t.Errorf("after a burst it is not read for %s", rested)
		}
		for range 100 { // at leisure
			time.Sleep(10 * time.Millisecond)
			w.Add()
			if rested := rests(w); rested != 0 {
				t.Errorf("after 100 a second it is not read for %s", rested)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := httpserver.NewWaste()
		begun, calls := time.Now(), 0
		for ; time.Since(begun) < time.Minute; calls++ {
			w.Add()
			if rested := rests(w); rested > 5*time.Second {
				t.Fatalf("it is not read for %s", rested)
			}
		}
		if calls > 512+60*101 {
			t.Errorf("%d calls came in a minute", calls)
		}
		for range 100_000 {
			w.Add()
		}
		closing := time.AfterFunc(time.Second, w.Close)
		defer closing.Stop()
		if rested := rests(w); rested != time.Second {
			t.Errorf("after the end it rests for %s", rested)
		}
		w.Close()
	})
}
