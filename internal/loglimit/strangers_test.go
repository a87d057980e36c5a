package loglimit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/loglimit"
)

// TestStrangers: one who is loud has a line a minute, which says what was left out, and hides nobody; many at once have a few, and hide no other kind.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := loglimit.NewStrangers()
		lines, missed := 0, 0
		for range 180 {
			if before, due := l.Due("token", "192.0.2.1", time.Minute); due {
				lines, missed = lines+1, missed+before
			}
			time.Sleep(time.Second)
		}
		if lines != 3 || missed != 2*59 {
			t.Errorf("%d lines in three minutes, which tell of %d others", lines, missed)
		}
		if _, due := l.Due("token", "192.0.2.2", time.Minute); !due {
			t.Error("a line about another one is hidden")
		}
		lines = 0
		for i := range 10_000 {
			if _, due := l.Due("token", fmt.Sprint("10.0.0.", i), time.Minute); due {
				lines++
			}
		}
		if lines > 10 {
			t.Errorf("%d lines at once about as many others", lines)
		}
		if _, due := l.Due("name", "192.0.2.1", time.Minute); !due {
			t.Error("a line of another kind is hidden")
		}
	})
}
