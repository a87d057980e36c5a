package push_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/push"
)

// TestShare: who has a share never takes what is left for the others, and they together never take more than the whole.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = 1 << 20
		whole := push.NewBudget(2 * half)
		share := whole.Share()
		grow := func(b *push.Budget, n int) (*push.Buffer, error) {
			buffer := b.Buffer(t.Context(), push.Sender{})
			return buffer, buffer.Grow(n)
		}
		ours, err := grow(share, half)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := grow(share, 1); !errors.Is(err, change.Unavailable) || time.Since(start) != 5*time.Second {
			t.Errorf("more than the share = %v after %v", err, time.Since(start))
		}
		if _, err := grow(share, half+1); !errors.Is(err, change.TooLarge) {
			t.Errorf("a body beyond the share = %v", err)
		}
		theirs, err := grow(whole, half)
		if err != nil {
			t.Fatalf("the others' half = %v", err)
		}
		if _, err := grow(whole, 1); !errors.Is(err, change.Unavailable) {
			t.Errorf("more than the whole = %v", err)
		}
		ours.Release()
		more, err := grow(whole, half)
		if err != nil {
			t.Errorf("what the share does not use = %v", err)
		}
		// Those who wait for the whole give their share back when they give up.
		if _, err := grow(share, half); !errors.Is(err, change.Unavailable) {
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
		if err := b.Share().Buffer(context.Background(), push.Sender{}).Grow(1 << 20); err != nil || b.Share().Size() != 0 || b.Size() != 0 {
			t.Errorf("a share of no bound = %v", err)
		}
	}
}

// TestTake: a body in one piece is not copied, one in several is whole, and both count.
func TestTake(t *testing.T) {
	budget := push.NewBudget(1 << 20)
	b := budget.Buffer(t.Context(), push.Sender{})
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
		b := budget.Buffer(t.Context(), push.Sender{})
		var err error
		for _, n := range pieces {
			err = b.Take(make([]byte, n))
		}
		if !errors.Is(err, change.TooLarge) {
			t.Errorf("pieces of %d bytes = %v, want ErrTooLarge", pieces, err)
		}
		b.Release()
	}
}

// a body of a sender, which is ended by closing a channel.
func bodyOf(t *testing.T, b *push.Budget, name string) (body *push.Buffer, ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{})
	return b.Buffer(t.Context(), push.Sender{Name: name, End: func() { close(ended) }}), ended
}

func isEnded(ended chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

func mustGrow(t *testing.T, b *push.Buffer, n int) {
	t.Helper()
	if _, err := b.Write(make([]byte, n)); err != nil {
		t.Fatalf("Write(%d) = %v", n, err)
	}
}

// TestSlowBodies: a body may be slow while nobody waits; then the largest that stands still makes room, and those go on that arrive.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		budget := push.NewBudget(10*mib + mib/2)
		small, smallEnded := bodyOf(t, budget, "a")
		large, largeEnded := bodyOf(t, budget, "b")
		arriving, arrivingEnded := bodyOf(t, budget, "c")
		whole, wholeEnded := bodyOf(t, budget, "d")
		mustGrow(t, small, mib)
		mustGrow(t, large, 3*mib)
		mustGrow(t, arriving, mib)
		mustGrow(t, whole, 4*mib)
		if err := whole.Complete(exposition.Text004); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		for _, ended := range []chan struct{}{smallEnded, largeEnded, arrivingEnded, wholeEnded} {
			if isEnded(ended) {
				t.Fatal("a body was ended while nobody waited")
			}
		}
		mustGrow(t, arriving, 0)
		go func() { // it comes at 32 KiB/s all the while
			for range 3 {
				time.Sleep(500 * time.Millisecond)
				arriving.Write(make([]byte, 16<<10))
			}
		}()
		go func() {
			<-largeEnded
			if _, err := large.Write([]byte("x")); !errors.Is(err, change.Stalled) {
				t.Errorf("Write of a body that was ended = %v", err)
			}
			large.Release()
		}()
		next := budget.Buffer(t.Context(), push.Sender{Name: "e"})
		start := time.Now()
		mustGrow(t, next, 3*mib)
		if isEnded(smallEnded) || isEnded(arrivingEnded) || isEnded(wholeEnded) || !isEnded(largeEnded) || time.Since(start) > time.Second {
			t.Errorf("not the largest was ended, after %s", time.Since(start))
		}
		time.Sleep(2 * time.Second)
	})
}

// TestGreedySender: one sender keeps no more than half while another waits, however fast it is; for itself it makes no room.
func TestGreedySender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		budget := push.NewBudget(16 * mib)
		var bodies []*push.Buffer
		var ends []chan struct{}
		for range 7 {
			b, ended := bodyOf(t, budget, "greedy")
			mustGrow(t, b, 2*mib)
			bodies, ends = append(bodies, b), append(ends, ended)
		}
		brief, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		more := budget.Buffer(brief, push.Sender{Name: "greedy"})
		if _, err := more.Write(make([]byte, 4*mib)); !errors.Is(err, change.Unavailable) || errors.Is(err, change.Stalled) {
			t.Errorf("more of the same sender = %v", err)
		}
		for i := range bodies {
			go func() {
				<-ends[i]
				bodies[i].Release()
			}()
		}
		other := budget.Buffer(t.Context(), push.Sender{Name: "modest"})
		mustGrow(t, other, 4*mib)
		n := 0
		for _, ended := range ends {
			if isEnded(ended) {
				n++
			}
		}
		if n < 1 || n > 2 {
			t.Errorf("%d bodies were ended for 4 MiB", n)
		}
		for i := range bodies {
			if !isEnded(ends[i]) {
				close(ends[i])
			}
		}
		synctest.Wait()
	})
}

// TestGreedySenderThatWaits: bodies of a sender that has more than half make room also while all of them wait for more, and those that wait
// come after others.
func TestGreedySenderThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		budget := push.NewBudget(16 * mib)
		stalled := make(chan bool, 8)
		var bodies []*push.Buffer
		for range 8 {
			b, _ := bodyOf(t, budget, "greedy")
			mustGrow(t, b, 2*mib)
			bodies = append(bodies, b)
		}
		for _, b := range bodies {
			go func() {
				_, err := b.Write(make([]byte, 4*mib))
				stalled <- errors.Is(err, change.Stalled)
				b.Release()
			}()
		}
		synctest.Wait()
		start := time.Now()
		other := budget.Buffer(t.Context(), push.Sender{Name: "modest"})
		mustGrow(t, other, mib)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("another sender waited %v", waited)
		}
		if !<-stalled {
			t.Error("the body that made room is not told why it ended")
		}
		other.Release()
		for range 7 {
			<-stalled
		}
	})
}

// TestParsingCounts: what parsing takes is memory as well, and bodies that have come do not wait for each other.
func TestParsingCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := push.NewBudget(1 << 20)
		var parsing sync.WaitGroup
		for range 20 { // each alone takes more than there is
			parsing.Go(func() {
				b := budget.Buffer(t.Context(), push.Sender{Name: "a"})
				defer b.Release()
				if _, err := b.Write(bytes.Repeat([]byte("m 1\n"), 5000)); err != nil {
					t.Error(err)
				}
				if err := b.Complete(exposition.Text004); err != nil {
					t.Error(err)
				}
				time.Sleep(100 * time.Millisecond)
			})
		}
		start := time.Now()
		parsing.Wait()
		if took := time.Since(start); took < time.Second || took > 3*time.Second {
			t.Errorf("they took %s: not one after the other", took)
		}
	})
}
