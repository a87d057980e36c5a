package enginetest

import (
	"testing"
	"time"
)

// eventuallyWithin bounds how long is waited for what comes by itself.
const eventuallyWithin = 20 * time.Second

// Eventually polls until something holds. It is for what goes by etcd, which has no other way to say so.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(eventuallyWithin)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not so after %v: %s", eventuallyWithin, what)
		case <-ticker.C:
		}
	}
}
