//go:build linux

package tunnel_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
)

// silentConnections is how many dial the agents' port in TestTunnelSilentConnections and then say nothing, or too little.
const silentConnections = 300

// clientHelloBegin is the head of a TLS record that announces a ClientHello of 512 bytes, and its first bytes.
const clientHelloBegin = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

// TestTunnelSilentConnections: whoever dials the agents' port and does not go on with the handshake holds back no agent.
// No certificate is needed for that, so anybody could do it.
func TestTunnelSilentConnections(t *testing.T) {
	t.Parallel()
	address := exporter.Serve(t, exporter.NewStaged())
	r := house.StartRelay(t)
	before := house.VitalsOf(t, r.URL)
	var silent []net.Conn
	for n := range silentConnections {
		c, err := net.Dial("tcp", r.GRPC)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
		if n%2 == 0 {
			if _, err := c.Write([]byte(clientHelloBegin)); err != nil {
				t.Fatal(err)
			}
		}
	}
	startedAt := time.Now()
	a := house.StartAgent(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...))
	if err := client.ScrapedAs(r.TargetURL("site-a", "metrics", address), exporter.StagedBody); err != nil {
		t.Error(err)
	}
	// All of that happened while the others were still there: it waited for none of them.
	held := 0
	for _, c := range silent {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			held++
		}
	}
	if held < silentConnections*9/10 {
		t.Errorf("only %d of %d silent connections were still open %v later, when the agent was attached", held, silentConnections, time.Since(startedAt))
	}
	a.Stop(t)
	// The relay closes them by itself.
	for _, c := range silent {
		c.SetReadDeadline(time.Now().Add(client.Patience))
		_, err := c.Read(make([]byte, 1))
		if timeout, ok := errors.AsType[net.Error](err); err == nil || ok && timeout.Timeout() {
			t.Fatalf("a silent connection is never closed: %v", err)
		}
	}
	before.WantRest(t)
}
