//go:build linux

package house

import (
	"hash/crc32"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/faultproxy"
)

// A Site is an agent behind a network that the test can break.
type Site struct {
	*Agent
	Network *faultproxy.Proxy
}

// StartSite starts an agent whose way to the relay leads through a network of its own, and waits until it is connected.
func StartSite(t testing.TB, r *Relay, name, config string, flags ...string) *Site {
	t.Helper()
	network := NewNetworkTo(t, r.GRPC, name)
	return &Site{Agent: StartAgentVia(t, r, network.Addr(), name, config, flags...), Network: network}
}

// NewNetworkTo starts a network that leads to an address. Its name decides what happens at random. Cleanup closes it after
// what is started later.
func NewNetworkTo(t testing.TB, address, name string) *faultproxy.Proxy {
	t.Helper()
	network, err := faultproxy.Listen(faultproxy.Config{Address: address, Seed: uint64(crc32.ChecksumIEEE([]byte(name)))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Close)
	return network
}

// A RelaySession is what a relay tells of an agent's session.
type RelaySession struct {
	Agent               string
	Connected           bool
	SessionStarted      time.Time  `json:"session_started"`
	CertificateNotAfter *time.Time `json:"certificate_not_after"`
}

// Session returns when the current or last session of an agent began: another value is another session.
func (r *Relay) Session(t testing.TB, agent string) RelaySession {
	t.Helper()
	for _, s := range DecodeData[RelaySession](t, client.MustGet(t, r.URL+"/api/v1/agents")) {
		if s.Agent == agent {
			return s
		}
	}
	t.Fatalf("the relay does not know agent %s", agent)
	return RelaySession{}
}

// WantSameSession checks that an agent's session never ended since it was looked at.
func (r *Relay) WantSameSession(t testing.TB, before RelaySession) {
	t.Helper()
	if now := r.Session(t, before.Agent); !now.Connected || !now.SessionStarted.Equal(before.SessionStarted) {
		t.Errorf("session of %s: connected %v since %s, want that of %s", before.Agent, now.Connected, now.SessionStarted, before.SessionStarted)
	}
}

// BackWithin is how long an agent may take to come back once nothing is in its way.
const BackWithin = 15 * time.Second

// WantBack waits until an agent has another session than before: as long as it may take, and some time for the machine.
func (r *Relay) WantBack(t testing.TB, before RelaySession) {
	t.Helper()
	client.Eventually(t, BackWithin+Tolerance/2, before.Agent+" is back", func() error {
		if now := r.Session(t, before.Agent); !now.Connected || now.SessionStarted.Equal(before.SessionStarted) {
			return ErrNotConnected
		}
		return nil
	})
}

// How soon a peer that vanished has to be noticed (T4), and what a busy machine may take in addition.
const (
	Noticed   = 45 * time.Second
	Tolerance = 10 * time.Second
)
