package httpserver

import (
	"net/http"
	"sync"
	"time"

	"pushrelay/internal/monotonic"

	"golang.org/x/time/rate"
)

// What comes to nothing may come as fast as this over one connection of HTTP/2. Whoever gives up on every call that a busy agent or Prometheus makes
// at once is within it.
const (
	wasteBurst = 512
	wasteRate  = 100 // a second
	// maxRest is how long a connection is not read at a time; what lives on it has to notice nothing.
	maxRest = 5 * time.Second
)

// Waste bounds the calls of a connection that come to nothing: in HTTP/2 a peer can cancel a call in the packet that makes it, and the next one costs
// it nothing, while all the work is this end's. A connection that brings more of them than can be meant is not read for as long. It is safe for
// concurrent use.
type Waste struct {
	calls  *rate.Limiter
	until  monotonic.Time // when the connection is read again
	closed chan struct{}
	once   sync.Once
}

// NewWaste returns that of a new connection.
func NewWaste() *Waste {
	return &Waste{calls: rate.NewLimiter(wasteRate, wasteBurst), closed: make(chan struct{})}
}

// Add counts a call that came to nothing.
func (w *Waste) Add() {
	if rest := w.calls.Reserve().Delay(); rest > 0 {
		w.until.Set(time.Now().Add(min(rest, maxRest)))
	}
}

// Rest waits until the connection may be read, or is closed.
func (w *Waste) Rest() {
	left := time.Until(w.until.Load())
	if left <= 0 {
		return
	}
	over := time.NewTimer(left)
	defer over.Stop()
	select {
	case <-over.C:
	case <-w.closed:
	}
}

// Close ends the rest.
func (w *Waste) Close() { w.once.Do(func() { close(w.closed) }) }

// countResets counts the requests of HTTP/2 that their client gave up before the answer.
func countResets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			defer func() {
				if r.Context().Err() != nil {
					connOf(r.Context()).waste.Add()
				}
			}()
		}
		next.ServeHTTP(w, r)
	})
}
