package httpserver

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"sync"
	"time"

	"pushrelay/internal/monotonic"
)

// To check a password takes a tenth of a second of a processor, and the web configuration's handler checks one after the other: wrong ones
// in number would keep everybody out whose password is right. So those that were right before go first, and the others wait here.
const (
	// maxChecks bounds those that wait to be checked, and maxChecksOf those of one address.
	maxChecks   = 64
	maxChecksOf = 8
	// maxRight is how many right ones are remembered.
	maxRight = 1024
)

// passwords lets requests through to the handler that checks their passwords, those with a password that was never right one at
// a time. It knows no password: that handler alone decides.
type passwords struct {
	secret [32]byte
	turn   chan struct{} // one slot

	mu      sync.Mutex
	right   map[[32]byte]bool // guarded by mu; hashes of credentials that were let through the last time
	waiting map[string]int    // guarded by mu; by address
	all     int               // guarded by mu; of waiting
}

func newPasswords() *passwords {
	p := &passwords{turn: make(chan struct{}, 1), right: map[[32]byte]bool{}, waiting: map[string]int{}}
	rand.Read(p.secret[:])
	return p
}

// check is a request on its way through the handler that checks.
type check struct {
	passed func()
	right  bool // set in the request's goroutine
}

type checkKey struct{}

// behind returns the handler for those who were let through.
func (p *passwords) behind(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(checkKey{}).(*check); ok {
			c.right = true
			c.passed()
		}
		next.ServeHTTP(w, r)
	})
}

// before returns the handler in front of the one that checks.
func (p *passwords) before(checks http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, has := r.BasicAuth(); has {
			p.serveInTurn(checks, w, r)
			return
		}
		checks.ServeHTTP(w, r)
	})
}

// serveInTurn serves a request with a password, which waits for its turn if it is not known to be right.
func (p *passwords) serveInTurn(checks http.Handler, w http.ResponseWriter, r *http.Request) {
	id := p.idOf(r)
	c := &check{passed: func() {}}
	if !p.wasRight(id) {
		leave, ok := p.wait(r)
		if !ok {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many passwords wait to be checked", http.StatusTooManyRequests)
			return
		}
		c.passed = sync.OnceFunc(leave)
	}
	begun := time.Now()
	checks.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), checkKey{}, c)))
	if !c.right && !p.wasRight(id) {
		monotonic.Sleep(r.Context(), time.Since(begun)) // half of a processor is enough for wrong ones
	}
	c.passed()
	p.note(id, c.right)
}

// idOf stands for the credentials of a request.
func (p *passwords) idOf(r *http.Request) [32]byte {
	return sha256.Sum256(append(p.secret[:], r.Header.Get("Authorization")...))
}

func (p *passwords) wasRight(id [32]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.right[id]
}

// note remembers whether credentials were let through.
func (p *passwords) note(id [32]byte, right bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !right {
		delete(p.right, id)
		return
	}
	for other := range p.right {
		if len(p.right) < maxRight || p.right[id] {
			break
		}
		delete(p.right, other) // whichever
	}
	p.right[id] = true
}

// wait waits for the turn, and returns how to give it up; ok is false if too many wait already, or nobody waits for the answer any more.
func (p *passwords) wait(r *http.Request) (leave func(), ok bool) {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	p.mu.Lock()
	if p.all >= maxChecks || p.waiting[address] >= maxChecksOf {
		p.mu.Unlock()
		return nil, false
	}
	p.all++
	p.waiting[address]++
	p.mu.Unlock()
	left := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.all--
		if p.waiting[address]--; p.waiting[address] == 0 {
			delete(p.waiting, address)
		}
	}
	select {
	case p.turn <- struct{}{}:
		return func() { <-p.turn; left() }, true
	case <-r.Context().Done():
		left()
		return nil, false
	}
}
