package tunnel_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestHeadsAreJudgedAtTheRelay: an agent of an earlier release, or anybody with a certificate, sends heads as they are.
func TestHeadsAreJudgedAtTheRelay(t *testing.T) {
	h := newHouse(t, pusherFunc(noPushes))
	var head scrape.Response
	h.attach("site", scraperFunc(func(context.Context, *scrape.Request) (*scrape.Response, error) {
		resp := head
		resp.ContentLength, resp.Body = -1, io.NopCloser(strings.NewReader("<script>"))
		return &resp, nil
	}))
	ctx := timeout(t, 10*time.Second)
	away := http.Header{"Location": {"http://user:secret@elsewhere/m?token=secret"}}
	for _, tt := range []struct {
		status int
		header http.Header
		want   scrape.Reason // empty if the answer is passed on
	}{
		{301, away, scrape.TargetRedirects},
		{302, away, scrape.TargetRedirects},
		{303, away, scrape.TargetRedirects},
		{307, away, scrape.TargetRedirects},
		{308, away, scrape.TargetRedirects},
		{302, http.Header{"Location": {"/metrics"}}, scrape.TargetRedirects},
		{0, nil, scrape.TargetUnreachable},
		{101, nil, scrape.TargetUnreachable},
		{199, nil, scrape.TargetUnreachable},
		{600, nil, scrape.TargetUnreachable},
		{300, away, ""},
		{304, away, ""},
		{200, http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {"a=b"}, "Refresh": {"0"}, "Retry-After": {"5"}}, ""},
	} {
		head = scrape.Response{Status: tt.status, Header: tt.header}
		resp, _, err := h.scrape(ctx, "site")
		if tt.want != "" {
			if err == nil || scrape.AsError(ctx, err).Reason != tt.want || strings.Contains(err.Error(), "secret") {
				t.Errorf("%d %v: %v, want %s", tt.status, tt.header, err, tt.want)
			}
			continue
		}
		if err != nil || resp.Status != tt.status {
			t.Errorf("%d: %v, %v, want it passed on", tt.status, resp, err)
			continue
		}
		if diff := cmp.Diff(scrape.ResponseHeader(tt.header), resp.Header); diff != "" {
			t.Errorf("%d: header (-want +got):\n%s", tt.status, diff)
		}
	}
}
