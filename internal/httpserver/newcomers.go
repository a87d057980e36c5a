package httpserver

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// newcomerGrace is how long the first request of a connection is waited for by a server that ends. It takes no connection any more, and answers those who have just
// connected: net/http closes a connection whose first request it reads while it ends, without an answer, and whoever scrapes sees the target down.
const newcomerGrace = 250 * time.Millisecond

// newcomers are the connections that were accepted and have had no request answered, nor begun to be. The zero value is none.
type newcomers struct {
	mu   sync.Mutex
	all  map[*conn]bool // guarded by mu
	last time.Time      // guarded by mu; when one came last
	gone chan struct{}  // guarded by mu; closed when none is left; nil until somebody waits for that
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
	if n.gone != nil && len(n.all) == 0 {
		close(n.gone)
		n.gone = nil
	}
}

// end waits until none is left or the last one has had its time, and closes those who are left: they would be waited for, and not be answered. None may come any more.
func (n *newcomers) end() {
	n.mu.Lock()
	if len(n.all) == 0 {
		n.mu.Unlock()
		return
	}
	gone := make(chan struct{})
	n.gone = gone
	grace := time.NewTimer(time.Until(n.last.Add(newcomerGrace)))
	n.mu.Unlock()
	defer grace.Stop()
	select {
	case <-gone:
	case <-grace.C:
	}
	n.mu.Lock()
	left := slices.Collect(maps.Keys(n.all))
	n.mu.Unlock()
	for _, c := range left {
		c.Conn.Close() // Nothing was asked on it.
	}
}

// stopAccepting closes all listeners, and waits until those who have connected are being answered, or have had their time.
func (s *Server) stopAccepting() {
	for _, l := range s.accepting {
		l.stop()
	}
	for _, l := range s.accepting {
		<-l.ended
	}
	s.newcomers.end()
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
