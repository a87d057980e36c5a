//go:build linux

package hostile_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

// smallBudget makes attacks on the memory for bodies small. What is garbage by then counts as well: the memory may grow by four times as
// much.
const smallBudget = "--push.max-inflight-bytes=64MiB"

// TestSlowBodies: bodies that trickle, more of them than the budget has room for, keep nobody from pushing.
func TestSlowBodies(t *testing.T) {
	r := startRelay(t, smallBudget)
	b := usual
	b.memory = 256 << 20
	r.beside(b, func(ctx context.Context) {
		several(ctx, 24, func(ctx context.Context, i int) {
			conn, err := elsewhere.DialContext(ctx, "tcp", r.web)
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "PUT /metrics/job/slow%d HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n", i, 12<<20)
			conn.Write(bytes.Repeat([]byte("# comment\n"), 1<<20))
			for ctx.Err() == nil {
				if _, err := conn.Write([]byte("#")); err != nil {
					return
				}
				<-time.After(100 * time.Millisecond)
			}
		})
	})
}

// TestBombs: bodies that are small and become large take no more than the budget, be it as they are or as they are parsed.
func TestBombs(t *testing.T) {
	r := startRelay(t, smallBudget)
	comments := packed(func(w io.Writer) {
		line := bytes.Repeat([]byte("# "+strings.Repeat("x", 998)+"\n"), 1000)
		for range 20 {
			w.Write(line)
		}
	})
	series := packed(func(w io.Writer) {
		for i := range 90_000 {
			fmt.Fprintf(w, "bomb{i=\"%d\"} 1\n", i)
		}
		fmt.Fprintln(w, "and it ends with what is none") // nothing is stored
	})
	b := usual
	b.memory, b.never = 256<<20, time.Second // all processors are busy with what they are asked to read
	r.beside(b, func(ctx context.Context) {
		several(ctx, 24, func(ctx context.Context, i int) {
			bomb := [][]byte{comments, series, series}[i%3]
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("%s/metrics/job/bomb%d", r.url, i), bytes.NewReader(bomb))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Encoding", "gzip")
			resp, err := clientElsewhere.Do(req)
			if err != nil {
				return
			}
			resp.Body.Close()
			<-time.After(50 * time.Millisecond)
		})
	})
}

// packed returns what is written as gzip has it.
func packed(write func(w io.Writer)) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	write(z)
	z.Close()
	return out.Bytes()
}

// TestSlowReaders: those who ask for everything and read nothing keep no scraper waiting.
func TestSlowReaders(t *testing.T) {
	r := startRelay(t)
	var body strings.Builder
	for i := range 90_000 {
		fmt.Fprintf(&body, "m{i=\"%d\",padding=\"%s\"} 1\n", i, strings.Repeat("x", 60))
	}
	if fault := r.want(t.Context(), http.MethodPut, "/metrics/job/large", body.String()); fault != "" {
		t.Fatal(fault)
	}
	b := usual
	b.memory, b.never = 256<<20, 4*time.Second // a turn is given up after 2 s
	r.beside(b, func(ctx context.Context) {
		several(ctx, 16, func(ctx context.Context, _ int) {
			conn, err := elsewhere.DialContext(ctx, "tcp", r.web)
			if err != nil {
				return
			}
			defer conn.Close()
			conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			fmt.Fprint(conn, "GET /metrics HTTP/1.1\r\nHost: r\r\n\r\n")
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		})
	})
}

// TestForgedLabel: a direct push gives no series the label of an agent, and what has it from before is in nobody's way.
func TestForgedLabel(t *testing.T) {
	r := startRelay(t)
	const forged = "m{agent=\"site\"} 1\n"
	if fault := r.want(t.Context(), http.MethodPut, "/metrics/job/j", forged); fault != "" {
		t.Fatal(fault) // nobody knows the agent yet
	}
	site := r.issue("site").attached()
	if status, answer := r.do(t.Context(), http.MethodPut, "/metrics/job/j", forged); status != http.StatusForbidden || !strings.Contains(answer, `agent="site"`) {
		t.Errorf("a forged label is answered %d %s", status, answer)
	}
	if v, err := site.push(change(1, "m 2\n"), "m 2\n"); err != nil || v.GetApplied() == nil {
		t.Errorf("the agent's push = %v, %v", v, err)
	}
	if _, text := r.do(t.Context(), http.MethodGet, "/metrics", ""); !strings.Contains(text, `m{agent="site",instance="",job="j"} 2`) || strings.Contains(text, `m{agent="site",instance="",job="j"} 1`) {
		t.Errorf("exposed is not what the agent pushed")
	}
}

// TestSilentConnections: connections to the agents' port that say nothing, and those that say what is no TLS, keep no agent out.
func TestSilentConnections(t *testing.T) {
	r := startRelay(t)
	late := r.issue("late")
	r.beside(usual, func(ctx context.Context) {
		attached := make(chan struct{})
		go func() {
			defer close(attached)
			begun := time.Now()
			a := late.dial()
			if err := a.hello(t.Context()); err != nil || time.Since(begun) > 8*time.Second {
				t.Errorf("an agent that comes meanwhile: %v after %v", err, time.Since(begun))
			}
		}()
		several(ctx, 300, func(ctx context.Context, i int) {
			conn, err := elsewhere.DialContext(ctx, "tcp", r.grpc)
			if err != nil {
				return
			}
			defer conn.Close()
			if i%2 == 0 {
				fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", strings.Repeat("x", 1<<10))
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			io.Copy(io.Discard, conn)
			<-time.After(20 * time.Millisecond) // or the test would keep the processors busy
		})
		<-attached
	})
}

// TestWrongPasswords: those who try passwords slow nobody down whose password is right, and not for long who shows it for the first time.
func TestWrongPasswords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	// The password is "right", at the usual cost.
	const hash = "$2a$10$EDGZncDk.A6R5lm3Y4RhmuzfCD8e8Q0Rzq0L15hO0n2amOybvoq6m"
	if err := os.WriteFile(file, fmt.Appendf(nil, "basic_auth_users: {right: %q, new: %q}\n", hash, hash), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRelay(t, "--web.config.file="+file)
	var wrong atomic.Int64
	r.beside(usual, func(ctx context.Context) {
		attacking, stop := context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer stop()
			defer func() { <-ctx.Done() }()
			<-time.After(200 * time.Millisecond) // all of them try by then
			before := wrong.Load()
			if status := r.asks(t.Context(), client, "new", "right"); status != http.StatusOK {
				t.Errorf("a right password that comes for the first time is answered %d", status)
			}
			if waited := wrong.Load() - before; waited > 12 { // 8 of one address wait
				t.Errorf("a right password that comes for the first time waits for %d wrong ones", waited)
			}
		}()
		several(attacking, 40, func(ctx context.Context, i int) {
			status := r.asks(ctx, clientElsewhere, "right", fmt.Sprint("wrong", i, time.Now().UnixNano()))
			switch status {
			case http.StatusUnauthorized:
				wrong.Add(1)
			case http.StatusTooManyRequests, 0:
			default:
				t.Errorf("a wrong password is answered %d", status)
			}
			<-time.After(20 * time.Millisecond)
		})
	})
}

// asks asks for the metrics with a password, and returns the status; 0 if there was no answer.
func (r *relay) asks(ctx context.Context, client *http.Client, user, password string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.web+"/metrics", nil)
	if err != nil {
		return 0
	}
	req.SetBasicAuth(user, password)
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestSmuggling: requests that two readers could take for different ones are refused, or the connection ends with them; and paths lead
// nowhere but to the routes.
func TestSmuggling(t *testing.T) {
	r := startRelay(t)
	const second = "PUT /metrics/job/smuggled HTTP/1.1\r\nHost: r\r\nContent-Length: 4\r\n\r\nm 1\n"
	for name, request := range map[string]string{
		"two lengths":          "PUT /metrics/job/a HTTP/1.1\r\nHost: r\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nm 1\n" + second,
		"two encodings":        "PUT /metrics/job/a HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + second,
		"odd encoding":         "PUT /metrics/job/a HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + second,
		"space before a colon": "PUT /metrics/job/a HTTP/1.1\r\nHost: r\r\nContent-Length : 4\r\n\r\nm 1\n" + second,
		"signed length":        "PUT /metrics/job/a HTTP/1.1\r\nHost: r\r\nContent-Length: +4\r\n\r\nm 1\n" + second,
	} {
		conn, err := net.Dial("tcp", r.web)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, request)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && resp.StatusCode < 400 && !resp.Close {
			t.Errorf("%s: answered %d, and the connection goes on", name, resp.StatusCode)
		}
		conn.Close()
	}
	// Where both are, the chunks are what is read, and what is behind them is no request: the connection ends with the answer.
	for name, lengths := range map[string]string{
		"a length and chunks":         "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
		"chunks and a length":         "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
		"chunks and a length too far": fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n", len("4\r\nm 1\n\r\n0\r\n\r\n"+second)),
	} {
		job := "chunks" + strconv.Itoa(len(lengths))
		conn, err := net.Dial("tcp", r.web)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "PUT /metrics/job/%s HTTP/1.1\r\nHost: r\r\n%s\r\n4\r\nm 1\n\r\n0\r\n\r\n%s", job, lengths, second)
		answers, err := io.ReadAll(conn)
		if n := strings.Count(string(answers), "HTTP/1.1 "); err != nil || n != 1 || !strings.HasPrefix(string(answers), "HTTP/1.1 200 ") {
			t.Errorf("%s: %d answers, want one of 200 and then the end, %v:\n%s", name, n, err, answers)
		}
		if _, text := r.do(t.Context(), http.MethodGet, "/metrics", ""); !strings.Contains(text, fmt.Sprintf(`m{instance="",job=%q} 1`, job)) {
			t.Errorf("%s: the chunks are not what was pushed", name)
		}
		conn.Close()
	}
	for _, path := range []string{
		"/metrics/job/../../etc/passwd", "/metrics/job/%2e%2e/%2e%2e/api", "/agents/../metrics/job/x", "/agents/a/targets/..%2f..%2fadmin/metrics",
		"//metrics/job/x", "/metrics/job/a//instance", "/debug/pprof/../../metrics/job/x",
	} {
		conn, err := net.Dial("tcp", r.web)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: r\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntraversed", path)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode == http.StatusOK {
			t.Errorf("PUT %s: %v", path, err)
		}
		conn.Close()
	}
	if _, text := r.do(t.Context(), http.MethodGet, "/metrics", ""); strings.Contains(text, "smuggled") || strings.Contains(text, "traversed") {
		t.Error("something was pushed")
	}
}
