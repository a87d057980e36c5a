package client

import (
	"context"
	"testing"
	"time"
)

// Eventually polls until check returns nil. Only what runs over real sockets is waited for like this: it has no other way to say
// that it is ready.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.After(within)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-ticker.C:
		}
	}
}

// Patience is how long the tests wait for what a scraper would have given up: an answer that is late is then seen as one.
const Patience = 60 * time.Second

// Pause waits, or until the context ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
