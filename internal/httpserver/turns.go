package httpserver

import (
	"context"
	"net/http"
	"sync"
	"time"
)

const (
	// turnStall is how long a piece of an answer may wait for its reader while others wait for their turn.
	turnStall = 2 * time.Second
	// turnPiece is how much is written at once: a reader that takes 32 KiB/s loses no turn.
	turnPiece = 64 << 10
	// turnLook is how often somebody who waits looks for such a one.
	turnLook = 250 * time.Millisecond
)

// Turns are how many answers may hold something large at once. While nobody waits, a reader may take as long as [StallWriter] allows; while
// somebody does, a reader that takes nothing for 2 s loses its turn, and its answer is cut. It is safe for concurrent use.
type Turns struct {
	slots chan struct{}

	mu   sync.Mutex
	held map[*Turn]struct{} // guarded by mu
}

// NewTurns returns as many turns.
func NewTurns(n int) *Turns { return &Turns{slots: make(chan struct{}, n), held: map[*Turn]struct{}{}} }

// Turn is the writer of one answer. It is used by one goroutine, which ends it.
type Turn struct {
	*StallWriter

	turns *Turns
}

// Take waits for a turn as long as ctx lives; nil if none came. One that is free is taken also for a request whose context has ended: so
// does that of whoever closed the sending half, and still reads.
func (t *Turns) Take(ctx context.Context, w http.ResponseWriter) *Turn {
	select {
	case t.slots <- struct{}{}:
		return t.begin(w)
	default:
	}
	look := time.NewTicker(turnLook)
	defer look.Stop()
	for {
		t.cutOne()
		select {
		case t.slots <- struct{}{}:
			return t.begin(w)
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *Turns) begin(w http.ResponseWriter) *Turn {
	turn := &Turn{StallWriter: NewStallWriter(w), turns: t}
	turn.piece = turnPiece
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held[turn] = struct{}{}
	return turn
}

// End gives the turn to another. It must be called once.
func (t *Turn) End() {
	t.turns.mu.Lock()
	delete(t.turns.held, t)
	t.turns.mu.Unlock()
	<-t.turns.slots
}

// cutOne ends the answer whose reader has taken nothing for the longest time, if that is too long.
func (t *Turns) cutOne() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var slowest *Turn
	longest := turnStall
	for turn := range t.held {
		if blocked := turn.blocked(); blocked >= longest {
			slowest, longest = turn, blocked
		}
	}
	if slowest != nil {
		slowest.cut()
	}
}
