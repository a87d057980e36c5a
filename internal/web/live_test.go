package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/web"
)

// lookedAt counts how often it is asked for its position.
type lookedAt struct {
	*groupstore.Store

	mu    sync.Mutex
	looks int // guarded by mu
}

func (l *lookedAt) Position() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	return l.Store.Position()
}

func (l *lookedAt) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks
}

// A listener is a page that is open.
type listener struct {
	http.ResponseWriter

	mu     sync.Mutex
	heard  bytes.Buffer // guarded by mu
	status int          // guarded by mu
	leave  context.CancelFunc
	done   chan struct{}
}

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard.Write(p)
}

func (l *listener) WriteHeader(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = status
}

func (*listener) Flush() {}

// events returns the names of the events that came since it was asked last.
func (l *listener) events() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for line := range strings.SplitSeq(l.heard.String(), "\n") {
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			names = append(names, name)
		}
	}
	l.heard.Reset()
	return strings.Join(names, " ")
}

func (s *site) listen() *listener {
	ctx, leave := context.WithCancel(s.Context())
	l := &listener{ResponseWriter: httptest.NewRecorder(), leave: leave, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		s.handler.ServeHTTP(l, httptest.NewRequestWithContext(ctx, http.MethodGet, prefix+"/events", nil))
	}()
	return l
}

// TestLive: open pages hear of what changed and that the relay is there; nothing is looked at while none is open; and all streams end with
// the relay.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		store := &lookedAt{Store: s.store}
		s.config = func(cfg *web.Config) { cfg.Store = store }
		s.build()
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.pages.Run(ctx) }()
		time.Sleep(time.Hour)
		if store.count() != 0 {
			t.Errorf("it was looked %d times while nobody listened", store.count())
		}
		l, other := s.listen(), s.listen()
		time.Sleep(13 * time.Second)
		if got := l.events(); got != "beat" {
			t.Errorf("at first a page hears %q, want a beat", got)
		}
		s.push("m 1\n", "job", "j")
		time.Sleep(1500 * time.Millisecond)
		if got := l.events(); got != "groups" {
			t.Errorf("after a push a page hears %q, want that groups changed", got)
		}
		time.Sleep(time.Second)
		if got := l.events(); got != "beat" {
			t.Errorf("after 15 s a page hears %q, want a beat", got)
		}
		s.agents.changes.Add(1)
		s.push("m 2\n", "job", "j")
		time.Sleep(2 * time.Second)
		if got := l.events(); got != "groups agents" {
			t.Errorf("after both changed a page hears %q", got)
		}
		time.Sleep(time.Minute)
		if got := l.events(); got != "beat beat beat beat" {
			t.Errorf("in a minute in which nothing changes a page hears %q", got)
		}
		l.leave()
		<-l.done
		other.leave()
		<-other.done
		time.Sleep(2 * time.Second)
		before := store.count()
		time.Sleep(time.Hour)
		if store.count() != before {
			t.Errorf("it was looked %d times after all had left", store.count()-before)
		}
		// As many as there may be, one more, and the end.
		var all []*listener
		for range 65 {
			all = append(all, s.listen())
			synctest.Wait()
		}
		if last := all[64]; last.answered() != http.StatusServiceUnavailable {
			t.Errorf("the 65th is answered %d", last.answered())
		}
		all[0].leave()
		<-all[0].done
		again := s.listen()
		synctest.Wait()
		if again.answered() != 0 {
			t.Errorf("one that comes when another has left is answered %d", again.answered())
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, l := range append(all, again) {
			<-l.done
		}
		late := s.listen()
		<-late.done
		if late.answered() != http.StatusServiceUnavailable {
			t.Errorf("after the end one is answered %d", late.answered())
		}
	})
}

// answered returns the status that the page got; 0 for the one that streams have.
func (l *listener) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l oneConn) Close() error {
	close(l.closed)
	return nil
}

func (oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// TestLongStream: a page hears of the relay for as long as it listens, and not for the five minutes that other answers may take.
func TestLongStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		server := &http.Server{Handler: s.handler, WriteTimeout: 5 * time.Minute}
		near, far := net.Pipe()
		l := oneConn{make(chan net.Conn, 1), make(chan struct{})}
		l.conn <- far
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { server.Serve(l) })
		running.Go(func() { s.pages.Run(ctx) })
		var beats atomic.Int64
		running.Go(func() {
			for lines := bufio.NewScanner(near); lines.Scan(); {
				if lines.Text() == "event: beat" {
					beats.Add(1)
				}
			}
		})
		if _, err := fmt.Fprintf(near, "GET %s/events HTTP/1.1\r\nHost: relay\r\n\r\n", prefix); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + time.Second)
		if n := beats.Load(); n != 241 {
			t.Errorf("in an hour it heard %d beats, want 241", n)
		}
		near.Close()
		end()
		server.Close()
		running.Wait()
		time.Sleep(time.Minute)
	})
}
