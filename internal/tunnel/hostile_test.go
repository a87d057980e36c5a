package tunnel_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/scrape"
	"pushrelay/internal/tunnel"
)

// TestSilentConnectionsKeepNobodyOut: those who dial and say nothing, more of them than there are turns for handshakes,
// take none. attach waits less long than the relay waits for them.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	for range 100 {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	startedAt := time.Now()
	h.attach("site", answer(io.NopCloser(strings.NewReader(""))))
	if took := time.Since(startedAt); took >= tunnel.HandshakeTimeout {
		t.Errorf("the agent waited %v, as long as the silent connections are put up with", took)
	}
}

// TestHugeHeadIsTheTargetsFault: a head that does not fit into a message is refused where it came from. The session goes on.
func TestHugeHeadIsTheTargetsFault(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	huge := http.Header{"X-Huge": {strings.Repeat("x", 2*tunnel.MaxMessageBytes)}}
	heads := make(chan http.Header, 2)
	heads <- huge
	heads <- http.Header{}
	h.attach("site", scraperFunc(func(context.Context, *scrape.Request) (*scrape.Response, error) {
		return &scrape.Response{Status: 200, Header: <-heads, ContentLength: -1, Body: io.NopCloser(strings.NewReader("m 1\n"))}, nil
	}))
	ctx := timeout(t, 10*time.Second)
	_, _, err := h.scrape(ctx, "site")
	if got := scrape.AsError(ctx, err).Reason; got != scrape.TargetUnreachable {
		t.Errorf("a huge head: %v, want %s", err, scrape.TargetUnreachable)
	}
	if _, body, err := h.scrape(ctx, "site"); err != nil || string(body) != "m 1\n" {
		t.Errorf("the next scrape = %q, %v", body, err)
	}
}
