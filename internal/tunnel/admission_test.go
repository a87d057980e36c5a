package tunnel_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// frame is one of HTTP/2 for the whole connection.
func frame(kind byte, payload string) string {
	return string([]byte{0, 0, byte(len(payload)), kind, 0, 0, 0, 0, 0}) + payload
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// TestHelloIsDue: an agent that shows its certificate and begins no session is let go, whatever else it does.
func TestHelloIsDue(t *testing.T) {
	for _, tt := range []struct{ name, first, again string }{
		{"nothing", "", ""},
		{"a preface", preface + frame(4, ""), ""},
		{"settings again and again", preface + frame(4, ""), frame(4, "")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, 10*time.Millisecond, func(t *testing.T, h *house, n *network) {
				conn := tls.Client(must[net.Conn](t)(n.Dial(t.Context(), "tcp", h.addr)), h.tlsOf("site"))
				defer conn.Close()
				if err := conn.HandshakeContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				io.WriteString(conn, tt.first)
				for time.Since(begun) < time.Minute {
					conn.SetReadDeadline(time.Now().Add(time.Second))
					if _, err := conn.Read(make([]byte, 1<<10)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						break
					}
					io.WriteString(conn, tt.again)
				}
				if open := time.Since(begun); open < 9*time.Second || open > 12*time.Second {
					t.Errorf("the connection was open for %v", open)
				}
			})
		})
	}
}

// wantOverloaded checks that an attempt was refused with a reason, and a time to come back.
func wantOverloaded(t *testing.T, what string, err error) {
	t.Helper()
	for _, detail := range status.Convert(err).Details() {
		end, ok := detail.(*relayv1.SessionEnd)
		if ok && end.GetReason() == relayv1.SessionEndReason_SESSION_END_REASON_OVERLOADED && end.GetRetryAfter().AsDuration() > 0 && end.GetMessage() != "" {
			return
		}
	}
	t.Errorf("%s: %v, want that it is told to come back later", what, err)
}

// TestConnectionsOfOneAgentAreBounded: an agent has so many connections, and not more; others have theirs.
func TestConnectionsOfOneAgentAreBounded(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	config, ctx := h.tlsOf("site"), timeout(t, 30*time.Second)
	dial := func() *tls.Conn {
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn.(*tls.Conn)
	}
	answers := func(c *tls.Conn) bool { // gRPC speaks first
		_, err := c.Read(make([]byte, 1))
		return err == nil
	}
	var held []*tls.Conn
	for range 8 {
		held = append(held, dial())
		if !answers(held[len(held)-1]) {
			t.Fatal("a connection within the bound was closed")
		}
	}
	ninth := h.dialRaw("site")
	wantOverloaded(t, "the ninth", ninth.attach(ctx, hello()))
	for range 7 {
		if held = append(held, dial()); !answers(held[len(held)-1]) {
			t.Fatal("a connection that may be told why was closed")
		}
	}
	seventeenth, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", h.addr) // It may be closed before its handshake has ended.
	if err == nil && answers(seventeenth.(*tls.Conn)) {
		t.Error("a seventeenth connection was taken")
	}
	h.greet("other", hello())
	ninth.close()
	for _, c := range held {
		c.Close()
	}
	eventually(t, "the agent can attach again", func() bool {
		again := h.dialRaw("site")
		defer again.close()
		return again.attach(ctx, hello()) == nil
	})
}

// TestAttachesOfOneAgentAreBounded: ten at once, then one a second; others are not concerned.
func TestAttachesOfOneAgentAreBounded(t *testing.T) {
	inBubble(t, time.Millisecond, func(t *testing.T, h *house, _ *network) {
		attempt := func(agent string) error {
			a := h.dialRaw(agent)
			defer a.close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			return a.attach(ctx, hello())
		}
		taken := 0
		var refusal error
		begun := time.Now()
		for time.Since(begun) < 20*time.Second {
			if err := attempt("site"); err != nil {
				refusal = err
			} else {
				taken++
			}
			time.Sleep(250 * time.Millisecond)
		}
		if taken < 28 || taken > 31 {
			t.Errorf("%d attempts of 20 s were taken, want 10 and one a second", taken)
		}
		wantOverloaded(t, "one too many", refusal)
		if err := attempt("other"); err != nil {
			t.Errorf("another agent: %v", err)
		}
		time.Sleep(tunnel.BackoffCap)
		for range 10 {
			if err := attempt("site"); err != nil {
				t.Errorf("after a while: %v", err)
			}
		}
	})
}
