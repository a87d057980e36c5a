package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/mtls"
)

func TestHandshake(t *testing.T) {
	ca := newAuthority(t, "our CA")
	relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem()))
	agent := newReloader(t, mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("site-1")), ca.pem()))

	for _, serverName := range []string{"relay.test", "RELAY.test", "127.0.0.1"} {
		out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, serverName))
		if out.relayErr != nil || out.agentErr != nil {
			t.Fatalf("handshake with %q: relay %v, agent %v, want none", serverName, out.relayErr, out.agentErr)
		}
		id, err := mtls.PeerIDFromState(out.relayState)
		if want := (mtls.PeerID{TrustDomain: trustDomain, Agent: "site-1"}); err != nil || id != want {
			t.Errorf("PeerIDFromState() = %v, %v, want %v", id, err, want)
		}
		for end, state := range map[string]tls.ConnectionState{"relay": out.relayState, "agent": out.agentState} {
			if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" {
				t.Errorf("%s: version %#x, protocol %q, want TLS 1.3 and h2", end, state.Version, state.NegotiatedProtocol)
			}
		}
	}
}

// Every way for an agent to be refused, in the handshake, with a reason at both ends (T1, T10).
func TestRelayRefuses(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "other CA")
	relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem()))

	tests := []struct {
		name   string
		shown  *pair  // nil: no certificate
		relay  string // in the relay's explained error
		reason string // in the agent's *RefusedError
	}{
		{name: "no certificate", relay: "didn't provide a certificate", reason: "no certificate was sent"},
		{
			name: "another CA", shown: new(other.sign(t, agentTemplate("a"))),
			relay: `certificate that names agent "a" is issued by "CN=other CA", not by this relay's CA`, reason: "not signed by the relay's CA",
		},
		{
			name: "a relay's certificate", shown: new(ca.sign(t, relayTemplate())),
			relay: `certificate of "CN=relay.test" is not for agents`, reason: "not for agents",
		},
		{
			name: "a relay's identity with both usages", shown: new(ca.sign(t, relayTemplate(usages(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)))),
			relay: "a relay's, not an agent's", reason: "no agent identity",
		},
		{
			name: "server usage with an agent's identity", shown: new(ca.sign(t, agentTemplate("a", usages(x509.ExtKeyUsageServerAuth)))),
			relay: "not for agents", reason: "not for agents",
		},
		{
			name: "no identity", shown: new(ca.sign(t, agentTemplate("a", uris()))),
			relay: "0 URI SANs", reason: "no agent identity",
		},
		{
			name: "two identities", shown: new(ca.sign(t, agentTemplate("a", uris("spiffe://example.org/agent/a", "spiffe://example.org/agent/b")))),
			relay: "2 URI SANs", reason: "no agent identity",
		},
		{
			name: "bad name", shown: new(ca.sign(t, agentTemplate("a", uris("spiffe://example.org/agent/a_b")))),
			relay: `'_'`, reason: "no agent identity",
		},
		{
			name: "another trust domain", shown: new(ca.sign(t, agentTemplate("a", uris("spiffe://elsewhere/agent/a")))),
			relay: `of trust domain "elsewhere", this relay is of "example.org"`, reason: "trust domain",
		},
		{
			name: "expired", shown: new(ca.sign(t, agentTemplate("a", validity(-2*time.Hour, -time.Hour)))),
			relay: "outside its validity", reason: "expired or not yet valid",
		},
		{
			name: "not yet valid", shown: new(ca.sign(t, agentTemplate("a", validity(time.Hour, 2*time.Hour)))),
			relay: "outside its validity", reason: "expired or not yet valid",
		},
		{
			name: "a CA's certificate", shown: new(ca.sign(t, agentTemplate("a", usages(x509.ExtKeyUsageOCSPSigning)))),
			relay: "not for agents", reason: "not for agents",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := handshake(mtls.RelayTLSConfig(relay, nil), bareAgent(t, tt.shown))
			err := mtls.ExplainHandshake(mtls.Relay, out.relayErr)
			if err == nil || !strings.Contains(err.Error(), tt.relay) || !errors.Is(err, out.relayErr) {
				t.Errorf("relay: %v, want an error with %q", err, tt.relay)
			}
			if out.relayState.HandshakeComplete {
				t.Error("relay: handshake is complete, want it refused")
			}
			refused, ok := errors.AsType[*mtls.RefusedError](mtls.ExplainHandshake(mtls.Agent, out.agentErr))
			if !ok || !strings.Contains(refused.Reason, tt.reason) || !errors.Is(refused, out.agentErr) {
				t.Errorf("agent: %v explained as %v, want a *RefusedError with %q", out.agentErr, refused, tt.reason)
			}
		})
	}
}

// A relay whose certificate does not name a trust domain cannot compare, and takes those of its CA.
func TestRelayWithoutTrustDomainTakesAgentsOfItsCA(t *testing.T) {
	ca := newAuthority(t, "our CA")
	relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate(uris())), ca.pem()))
	agent := newReloader(t, mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("a", uris("spiffe://elsewhere/agent/a"))), ca.pem()))
	out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, "relay.test"))
	if out.relayErr != nil || out.agentErr != nil {
		t.Errorf("handshake: relay %v, agent %v, want none", out.relayErr, out.agentErr)
	}
}

func TestRelayRefusesOldTLS(t *testing.T) {
	ca := newAuthority(t, "our CA")
	relay := newReloader(t, mtls.Relay, writeFiles(t, ca.sign(t, relayTemplate()), ca.pem()))
	agent := bareAgent(t, new(ca.sign(t, agentTemplate("a"))))
	agent.MaxVersion = tls.VersionTLS12
	out := handshake(mtls.RelayTLSConfig(relay, nil), agent)
	if out.relayErr == nil || out.agentErr == nil {
		t.Fatalf("handshake with TLS 1.2: relay %v, agent %v, want errors", out.relayErr, out.agentErr)
	}
	if err := mtls.ExplainHandshake(mtls.Agent, out.agentErr); !strings.Contains(err.Error(), "relay broke off TLS") {
		t.Errorf("agent: %v, want it to say that the relay broke off", err)
	}
}

// Every way for a relay to be refused by the agent.
func TestAgentRefuses(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "Inspection Box")
	agent := newReloader(t, mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem()))

	tests := []struct {
		name       string
		shown      pair
		serverName string
		want       string
	}{
		{
			name: "another CA", shown: other.sign(t, relayTemplate()), serverName: "relay.test",
			want: `issued by "CN=Inspection Box", which is not in the CA file: is TLS inspected on the way`,
		},
		{name: "another name", shown: ca.sign(t, relayTemplate()), serverName: "elsewhere.test", want: "valid for relay.test"},
		{name: "no name to verify", shown: ca.sign(t, relayTemplate()), serverName: "", want: "no host name"},
		{
			name: "an agent's certificate", shown: ca.sign(t, agentTemplate("b", func(c *x509.Certificate) { c.DNSNames = []string{"relay.test"} })),
			serverName: "relay.test", want: `not a relay's: it is the certificate of agent "b"`,
		},
		{
			name: "an agent's certificate for both uses", serverName: "relay.test", want: `certificate of agent "b"`,
			shown: ca.sign(t, agentTemplate("b", usages(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth),
				func(c *x509.Certificate) { c.DNSNames = []string{"relay.test"} })),
		},
		{name: "client usage only", shown: ca.sign(t, relayTemplate(usages(x509.ExtKeyUsageClientAuth))), serverName: "relay.test", want: "lacks the extended key usage serverAuth"},
		{name: "no usage", shown: ca.sign(t, relayTemplate(usages())), serverName: "relay.test", want: "lacks the extended key usage serverAuth"},
		{name: "expired", shown: ca.sign(t, relayTemplate(validity(-2*time.Hour, -time.Hour))), serverName: "relay.test", want: "expired"},
		{
			name: "only a common name", shown: ca.sign(t, relayTemplate(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil })),
			serverName: "relay.test", want: "other names",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := handshake(bareRelay(t, tt.shown), mtls.AgentTLSConfig(agent, tt.serverName))
			if out.agentErr == nil || !strings.Contains(out.agentErr.Error(), tt.want) {
				t.Errorf("agent: %v, want an error with %q", out.agentErr, tt.want)
			}
			if len(out.relayState.PeerCertificates) != 0 {
				t.Error("the agent showed its certificate to a relay that it does not trust")
			}
			if err := mtls.ExplainHandshake(mtls.Relay, out.relayErr); err == nil || !strings.Contains(err.Error(), "agent refused") {
				t.Errorf("relay: %v, want it to say that the agent refused", err)
			}
		})
	}
}

func TestUntrustedRelayErrorIsTyped(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "Inspection Box")
	agent := newReloader(t, mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem()))
	relay := newReloader(t, mtls.Relay, writeFiles(t, other.sign(t, relayTemplate()), other.pem()))
	out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, "relay.test"))

	untrusted, ok := errors.AsType[*mtls.UntrustedRelayError](mtls.ExplainHandshake(mtls.Agent, out.agentErr))
	if !ok {
		t.Fatalf("agent: %v, want an *UntrustedRelayError", out.agentErr)
	}
	if untrusted.ServerName != "relay.test" || untrusted.Issuer != "CN=Inspection Box" || untrusted.Subject != "CN=relay.test" {
		t.Errorf("UntrustedRelayError = %+v, want host, issuer and subject", untrusted)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](untrusted); !ok {
		t.Errorf("UntrustedRelayError wraps %v, want the reason of the verification", untrusted.Err)
	}
}

// The port of the relay's HTTP API instead of that for agents is the mistake that is made most easily.
func TestWhatSpeaksNoTLSIsExplained(t *testing.T) {
	ca := newAuthority(t, "our CA")
	agent := newReloader(t, mtls.Agent, writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem()))
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		io.ReadFull(far, make([]byte, 5))
		go io.Copy(io.Discard, far)
		io.WriteString(far, "HTTP/1.1 400 Bad Request\r\n\r\n")
	}()
	err := mtls.ExplainHandshake(mtls.Agent, tls.Client(near, mtls.AgentTLSConfig(agent, "relay.test")).Handshake())
	if err == nil || !strings.Contains(err.Error(), "--grpc.listen-address") {
		t.Errorf("an HTTP port: %v, want a hint at the port", err)
	}
	record := tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}
	if err := mtls.ExplainHandshake(mtls.Relay, record); !errors.Is(err, record) || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("relay: %v", err)
	}
}

func TestExplainHandshakeKeepsOtherErrors(t *testing.T) {
	for _, err := range []error{nil, net.ErrClosed, &net.OpError{Op: "read", Err: net.ErrClosed}} {
		for _, role := range []mtls.Role{mtls.Relay, mtls.Agent} {
			if got := mtls.ExplainHandshake(role, err); !errors.Is(got, err) {
				t.Errorf("ExplainHandshake(%v, %v) = %v, want it as it is", role, err, got)
			}
		}
	}
}

// bareAgent is an agent that checks nothing and shows what it is given.
func bareAgent(tb testing.TB, shown *pair) *tls.Config {
	tb.Helper()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, ServerName: "relay.test", InsecureSkipVerify: true}
	if shown == nil {
		return cfg
	}
	cert, err := mtls.ParsePair(shown.cert, shown.key)
	if err != nil {
		tb.Fatal(err)
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return cfg
}

// bareRelay is whatever listens and shows a certificate, and asks for any.
func bareRelay(tb testing.TB, shown pair) *tls.Config {
	tb.Helper()
	cert, err := mtls.ParsePair(shown.cert, shown.key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
	}
}
