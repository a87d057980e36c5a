package httpserver_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// large is a body that no socket takes whole.
var large = strings.Repeat("x", 16_000_000)

// refuse answers before it has read the body.
func refuse(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "too large", http.StatusRequestEntityTooLarge)
}

// TestAnswerBeforeTheBody: most clients send all before they read. They have to see what was answered meanwhile.
func TestAnswerBeforeTheBody(t *testing.T) {
	const length = "Content-Length: 16000000\r\n\r\n"
	some := func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 100_000)
		refuse(w, r)
	}
	limited := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1_000_000))
		refuse(w, r)
	}
	for _, tt := range []struct {
		name, head string
		handler    http.HandlerFunc
	}{
		{"at once", "PUT / HTTP/1.1\r\nHost: x\r\n" + length, refuse},
		{"after some of it", "PUT / HTTP/1.1\r\nHost: x\r\n" + length, some},
		{"beyond a limit", "PUT / HTTP/1.1\r\nHost: x\r\n" + length, limited},
		{"that will close", "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + length, refuse},
		{"that will close, beyond a limit", "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + length, limited},
		{"HTTP/1.0", "PUT / HTTP/1.0\r\n" + length, refuse},
		{"GET", "GET / HTTP/1.1\r\nHost: x\r\n" + length, refuse},
		{"a head too long", "PUT / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("x", 100_000) + "\r\n" + length, refuse},
		{"malformed", "PUT / HTTP/1.1\r\nHost: x\r\nNo header\r\n" + length, refuse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for network, dial := range listeners(t, tt.handler) {
				t.Run(network, func(t *testing.T) { wantSeen(t, dial(t), tt.head) })
			}
		})
	}
}

// TestAnswerBeforeThePassword: the same for those whom no handler of ours sees.
func TestAnswerBeforeThePassword(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := "basic_auth_users:\n  somebody: " + string(hash)
	for _, secured := range []bool{false, true} {
		f := flags("127.0.0.1:0")
		*f.WebConfigFile = webConfig(t, users)
		if !secured {
			if err := os.WriteFile(*f.WebConfigFile, []byte(users), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := serveFlags(t, f, refuse)
		got := wantSeen(t, clientTLS(secured)(t, s.Addr().String()), "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n")
		if got != http.StatusUnauthorized {
			t.Errorf("TLS %v: answer = %d, want 401", secured, got)
		}
	}
}

// wantSeen sends a large request whole, and then reads its answer.
func wantSeen(t *testing.T, c net.Conn, head string) (status int) {
	t.Helper()
	defer c.Close()
	if n, err := io.WriteString(c, head+large); err != nil {
		t.Fatalf("sending broke off after %d bytes: %v", n, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode < 400 {
		t.Errorf("answer = %d, %v, want it whole, and a refusal", resp.StatusCode, err)
	}
	return resp.StatusCode
}

// TestDiscardIsBounded: a sender without an end is not read for ever, and those who stall are few.
func TestDiscardIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for what stalls")
	}
	t.Parallel()
	s, _ := serveFlags(t, flags("127.0.0.1:0"), refuse)
	dial := func() net.Conn { return clientTLS(false)(t, s.Addr().String()) }
	const head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"

	startedAt := time.Now()
	var stalled sync.WaitGroup
	for range 64 {
		c := dial()
		io.WriteString(c, head)
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil { // it is waited for once it is answered
			t.Fatal(err)
		}
		stalled.Go(func() {
			c.Read(make([]byte, 1)) // its sending half is still open
		})
	}
	c := dial() // one too many: it is reset as ever
	if _, err := io.WriteString(c, head+strings.Repeat("x", 64<<20)); err == nil {
		t.Error("64 MiB beside 64 that stall were taken, want a reset")
	}
	stalled.Wait()

	// All are let go in time.
	for {
		c := dial()
		n, err := io.Copy(onlyWriter{c}, io.MultiReader(strings.NewReader(head), endless{}))
		if n > 16<<20 { // it had its turn
			if n > 64<<20 {
				t.Errorf("%d bytes were taken, want 16 MiB and what the sockets hold", n)
			}
			break
		}
		if err == nil || time.Since(startedAt) > 25*time.Second {
			t.Fatalf("%d bytes were taken, %v: want a turn after 5 s", n, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type onlyWriter struct{ io.Writer }

// TestNothingIsWaitedFor: a connection whose request was read closes as soon as its answer is sent.
func TestNothingIsWaitedFor(t *testing.T) {
	t.Parallel()
	for network, dial := range listeners(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }) {
		c := dial(t)
		io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody")
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("%s: %v", network, err)
		}
		// Nobody reads any more, and the first byte that comes says so.
		var err error
		for startedAt := time.Now(); err == nil && time.Since(startedAt) < 3*time.Second; {
			_, err = io.WriteString(c, "x")
		}
		if err == nil {
			t.Errorf("%s: the connection is still read", network)
		}
	}
}

// TestChunksEndTheConnection: what is behind a request in chunks is not read as the next one, whatever the answer and on whichever socket.
// Behind a request with a length it is.
func TestChunksEndTheConnection(t *testing.T) {
	t.Parallel()
	dials := listeners(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	protected, _ := withPassword(t)
	dials["without the password"] = func(t *testing.T) net.Conn { return clientTLS(false)(t, protected) }
	for network, dial := range dials {
		for head, answers := range map[string]int{
			"Transfer-Encoding: chunked\r\n":                       1,
			"Transfer-Encoding: chunked\r\nContent-Length: 60\r\n": 1,
			"Content-Length: 12\r\n":                               2,
		} {
			c := dial(t)
			io.WriteString(c, "PUT / HTTP/1.1\r\nHost: x\r\n"+head+"\r\n2\r\nab\r\n0\r\n\r\nPUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			got, err := io.ReadAll(c)
			if n := strings.Count(string(got), "HTTP/1.1 "); n != answers || err != nil {
				t.Errorf("%s, %q: %d answers, %v, want %d:\n%s", network, head, n, err, answers, got)
			}
		}
	}
}
