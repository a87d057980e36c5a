package push_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/push"
)

// TestShare: who has a share never takes what is left for the others, and they together never take more than the whole.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = 1 << 20
		whole := push.NewBudget(2 * half)
		share := whole.Share()
		grow := func(b *push.Budget, n int) (*push.Buffer, error) {
			buffer := b.Buffer(t.Context())
			return buffer, buffer.Grow(n)
		}
		ours, err := grow(share, half)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := grow(share, 1); !errors.Is(err, push.ErrUnavailable) || time.Since(start) != 5*time.Second {
			t.Errorf("more than the share = %v after %v", err, time.Since(start))
		}
		if _, err := grow(share, half+1); !errors.Is(err, push.ErrTooLarge) {
			t.Errorf("a body beyond the share = %v", err)
		}
		theirs, err := grow(whole, half)
		if err != nil {
			t.Fatalf("the others' half = %v", err)
		}
		if _, err := grow(whole, 1); !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("more than the whole = %v", err)
		}
		ours.Release()
		more, err := grow(whole, half)
		if err != nil {
			t.Errorf("what the share does not use = %v", err)
		}
		// Those who wait for the whole give their share back when they give up.
		if _, err := grow(share, half); !errors.Is(err, push.ErrUnavailable) {
			t.Errorf("a share of nothing = %v", err)
		}
		theirs.Release()
		more.Release()
		if _, err := grow(share, half); err != nil {
			t.Errorf("the share when all is given back = %v", err)
		}
		if share.Size() != half || whole.Size() != 2*half {
			t.Errorf("sizes %d and %d", share.Size(), whole.Size())
		}
	})
	for _, b := range []*push.Budget{nil, {}, push.NewBudget(0)} {
		if err := b.Share().Buffer(context.Background()).Grow(1 << 20); err != nil || b.Share().Size() != 0 || b.Size() != 0 {
			t.Errorf("a share of no bound = %v", err)
		}
	}
}

// TestTake: a body in one piece is not copied, one in several is whole, and both count.
func TestTake(t *testing.T) {
	budget := push.NewBudget(1 << 20)
	b := budget.Buffer(t.Context())
	defer b.Release()
	first := []byte("first, ")
	if err := b.Take(first); err != nil {
		t.Fatal(err)
	}
	if got := b.Bytes(); &got[0] != &first[0] {
		t.Error("the first piece was copied")
	}
	if err := b.Take([]byte("second")); err != nil || string(b.Bytes()) != "first, second" || b.Len() != len("first, second") {
		t.Errorf("the body is %q, %v", b.Bytes(), err)
	}
	for _, pieces := range [][]int{{1<<20 + 1}, {1 << 19, 1<<19 + 1}} {
		b := budget.Buffer(t.Context())
		var err error
		for _, n := range pieces {
			err = b.Take(make([]byte, n))
		}
		if !errors.Is(err, push.ErrTooLarge) {
			t.Errorf("pieces of %d bytes = %v, want ErrTooLarge", pieces, err)
		}
		b.Release()
	}
}
