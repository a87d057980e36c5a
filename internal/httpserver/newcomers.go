package httpserver

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A server that ends takes no connection any more, and answers those who have just connected: net/http closes a connection whose first request it reads
// while it ends, without an answer, and whoever scrapes sees the target down.
const (
	// newcomerGrace is how long the first request of a connection is waited for.
	newcomerGrace = 250 * time.Millisecond
	newcomerPoll  = 2 * time.Millisecond
)

// newcomers are the connections that were accepted and have had no request answered, nor begun to be. The zero value is none.
type newcomers struct {
	mu   sync.Mutex
	all  map[*conn]bool // guarded by mu
	last time.Time      // guarded by mu; when one came last
}

func (n *newcomers) come(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[*conn]bool{}
	}
	n.all[c], n.last = true, time.Now()
}

func (n *newcomers) leave(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, c)
}

// areExpected says that there are some, of whom one came a moment ago.
func (n *newcomers) areExpected() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all) > 0 && time.Since(n.last) < newcomerGrace
}

// close closes those who are left: they would not be answered, and be waited for.
func (n *newcomers) close() {
	n.mu.Lock()
	left := slices.Collect(maps.Keys(n.all))
	n.mu.Unlock()
	for _, c := range left {
		c.Conn.Close() //nolint:errcheck // Nothing was asked on it.
	}
}

// stopAccepting closes all listeners, and waits until those who have connected are being answered, or have had their time.
func (s *Server) stopAccepting() {
	for _, l := range s.accepting {
		l.stop()
	}
	isAccepting := func(l *connListener) bool { return !l.ended.Load() }
	for began := time.Now(); time.Since(began) < newcomerGrace; time.Sleep(newcomerPoll) {
		if !slices.ContainsFunc(s.accepting, isAccepting) && !s.newcomers.areExpected() {
			break
		}
	}
	s.newcomers.close()
}

// settle says that the connection is no newcomer any more.
func (c *conn) settle() {
	if c.settled.CompareAndSwap(false, true) {
		c.server.newcomers.leave(c)
	}
}

// settleFirst notes that a request of the connection is being answered.
func settleFirst(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connOf(r.Context()).settle()
		next.ServeHTTP(w, r)
	})
}
