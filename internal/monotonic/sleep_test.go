package monotonic_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/monotonic"
)

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		began := time.Now()
		if whole, took := monotonic.Sleep(ctx, time.Minute), time.Since(began); !whole || took != time.Minute {
			t.Errorf("Sleep(a minute) = %v after %v", whole, took)
		}
		if whole, took := monotonic.Sleep(ctx, time.Minute), time.Since(began); whole || took != 90*time.Second {
			t.Errorf("Sleep(a minute) = %v at %v, and the context ends after 90 s", whole, took)
		}
	})
}
