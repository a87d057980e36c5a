package httpserver

import (
	"net/http"
	"sync/atomic"
	"time"

	"pushrelay/internal/monotonic"
)

const (
	// stall is how long a reader may take nothing of an answer before it is given up (S13).
	stall = 30 * time.Second
	// stallPiece is how much is written at once: a reader that takes this much within the stall is slow, and not stalled.
	stallPiece = 256 << 10
)

// StallWriter moves the connection's write deadline on as the answer is taken, so that a slow reader is served to the end
// and one that takes nothing more is let go. The deadline that it leaves behind is replaced by the server's own when the
// next request of the connection comes. It hides the writer's ReadFrom, which would read a body in pieces of its own size.
type StallWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	piece   int // how much is written at once
	movedAt time.Time

	since  monotonic.Time // when the piece that is being written began; none between two
	isOver atomic.Bool    // it was cut
}

// NewStallWriter returns a writer to the body of the answer. It is used by one goroutine.
func NewStallWriter(w http.ResponseWriter) *StallWriter {
	return &StallWriter{w: w, control: http.NewResponseController(w), piece: stallPiece}
}

// Write writes in pieces.
func (s *StallWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		now := time.Now()
		// Moving it once a second is enough and keeps a fast answer free of timer calls.
		if now.Sub(s.movedAt) > time.Second {
			s.control.SetWriteDeadline(now.Add(stall)) //nolint:errcheck // Not every ResponseWriter has deadlines.
			s.movedAt = now
		}
		s.since.SetNow()
		if s.isOver.Load() {
			s.control.SetWriteDeadline(time.Now()) //nolint:errcheck // As above. It may have been moved on since it was cut.
		}
		n, err := s.w.Write(p[:min(len(p), s.piece)])
		s.since.Clear()
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// blocked returns for how long the reader has not taken the piece that is being written; 0 while none is. It may be called by anybody, as
// cut may.
func (s *StallWriter) blocked() time.Duration {
	since := s.since.Load()
	if since.IsZero() {
		return 0
	}
	return time.Since(since)
}

// cut lets the write that is going on fail, and all further ones.
func (s *StallWriter) cut() {
	s.isOver.Store(true)
	s.control.SetWriteDeadline(time.Now()) //nolint:errcheck // As in Write.
}
