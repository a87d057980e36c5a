package strangers

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/sweepmap"
)

// What those may have at once of whom nothing is known. Ten thousand agents may stand behind one address, which is why one that fails often has
// less and is never locked out: what waits longest makes room there.
const (
	maxAttempts       = 1024
	maxOfAddress      = 256
	maxOfFailing      = 16
	failuresOfFailing = 20 // within failureMemory
	failureMemory     = time.Minute
	patience          = 3 * time.Second // from then on one that waits makes room for another
)

// attempts bounds the connections of those who want a certificate. It is safe for concurrent use.
type attempts struct {
	mu      sync.Mutex
	open    []*Attempt                           // guarded by mu; the oldest first
	sources *sweepmap.Map[netip.Prefix, *source] // guarded by mu
}

// source is an address that attempts come from. It is guarded by attempts.mu.
type source struct {
	open     int
	failures int
	failedAt time.Time
}

func newAttempts() *attempts {
	return &attempts{sources: sweepmap.New[netip.Prefix]((*source).isOver)}
}

func newSource() *source { return &source{} }

// isOver says that nothing is to be remembered of the address. The caller holds attempts.mu.
func (of *source) isOver() bool { return of.open == 0 && time.Since(of.failedAt) > failureMemory }

// An Attempt is one connection of somebody who wants a certificate. Its socket is closed after [enrol.AttemptTimeout].
type Attempt struct {
	*tls.Conn

	// static

	// Address is where it comes from.
	Address string
	// Certificate is that it was opened with, of which nothing is verified but the possession of its key; nil for none.
	Certificate *x509.Certificate

	from  netip.Prefix
	begun time.Time
	end   *time.Timer
	left  func()

	called atomic.Bool
}

// AuthType says that nobody is authenticated yet.
func (*Attempt) AuthType() string { return "enrolment" }

// Close closes the connection.
func (a *Attempt) Close() error {
	a.end.Stop()
	a.left()
	return a.Conn.Close()
}

// enter takes a connection in if there is room, or can be.
func (s *attempts) enter(conn *tls.Conn) (a *Attempt, admitted bool) {
	now := time.Now()
	a = &Attempt{Conn: conn, Address: conn.RemoteAddr().String(), from: PrefixOf(conn.RemoteAddr().String()), begun: now}
	if shown := conn.ConnectionState().PeerCertificates; len(shown) > 0 {
		a.Certificate = shown[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.sources.Take(a.from, newSource)
	if of.open >= of.room(now) && !s.makeRoom(now, func(other *Attempt) bool { return other.from == a.from }) {
		return nil, false
	}
	if len(s.open) >= maxAttempts && !s.makeRoom(now, func(*Attempt) bool { return true }) {
		return nil, false
	}
	a.left = sync.OnceFunc(func() { s.leave(a) })
	a.end = time.AfterFunc(enrol.AttemptTimeout, func() { conn.NetConn().Close() })
	s.open = append(s.open, a)
	of.open++
	return a, true
}

// makeRoom drops the oldest attempt of some, if it is old enough, and reports whether it did. The caller holds mu.
func (s *attempts) makeRoom(now time.Time, of func(*Attempt) bool) bool {
	i := slices.IndexFunc(s.open, of)
	if i < 0 || now.Sub(s.open[i].begun) < patience {
		return false
	}
	s.open[i].NetConn().Close() // Whoever serves it sees that, and closes it.
	s.drop(i)
	return true
}

// drop forgets the open attempt at a place. The caller holds mu.
func (s *attempts) drop(place int) {
	if of := s.sources.Get(s.open[place].from); of != nil {
		of.open--
	}
	s.open = slices.Delete(s.open, place, place+1)
}

func (s *attempts) leave(a *Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.open, a); i >= 0 {
		s.drop(i)
	}
}

// failed counts a failure of whoever is at that address.
func (s *attempts) failed(a *Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, now := s.sources.Get(a.from), time.Now()
	if of == nil {
		return
	}
	if now.Sub(of.failedAt) > failureMemory {
		of.failures = 0
	}
	of.failures++
	of.failedAt = now
}

// room is how many attempts the address may have at once.
func (of *source) room(now time.Time) int {
	if of.failures >= failuresOfFailing && now.Sub(of.failedAt) <= failureMemory {
		return maxOfFailing
	}
	return maxOfAddress
}

// PrefixOf returns whom an address belongs to: with IPv6 a host has many.
func PrefixOf(address string) netip.Prefix {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := parsed.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
