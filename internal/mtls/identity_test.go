package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"pushrelay/internal/mtls"
)

func TestCheckAgentName(t *testing.T) {
	for _, name := range []string{"a", "7", "site-1", "a.b", "a--b..c", strings.Repeat("x", 63)} {
		if err := mtls.CheckAgentName(name); err != nil {
			t.Errorf("CheckAgentName(%q) = %v, want nil", name, err)
		}
	}
	for name, want := range map[string]string{
		"":                      "empty",
		strings.Repeat("x", 64): "64 characters",
		"-a":                    "begin and end",
		"a.":                    "begin and end",
		"A":                     "begin and end",
		"aBc":                   `'B'`,
		"a_b":                   `'_'`,
		"a/b":                   `'/'`,
		"a b":                   `' '`,
		"é":                     "begin and end",
		"a\nb":                  `'\n'`,
	} {
		if err := mtls.CheckAgentName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckAgentName(%q) = %v, want an error with %q", name, err, want)
		}
	}
}

func TestCheckTrustDomain(t *testing.T) {
	for _, td := range []string{"pushrelay", "example.org", "a_b-c", strings.Repeat("x", 255)} {
		if err := mtls.CheckTrustDomain(td); err != nil {
			t.Errorf("CheckTrustDomain(%q) = %v, want nil", td, err)
		}
	}
	for _, td := range []string{"", "Example", "a:1", "a/b", "u@h", strings.Repeat("x", 256)} {
		if mtls.CheckTrustDomain(td) == nil {
			t.Errorf("CheckTrustDomain(%q) = nil, want an error", td)
		}
	}
}

func TestPeerIDFromCertificate(t *testing.T) {
	tests := []struct {
		name string
		uris []string
		want mtls.PeerID
		err  string
	}{
		{name: "agent", uris: []string{"spiffe://example.org/agent/site-1"}, want: mtls.PeerID{TrustDomain: "example.org", Agent: "site-1"}},
		{name: "none", err: "0 URI SANs"},
		{name: "two", uris: []string{"spiffe://example.org/agent/a", "spiffe://example.org/agent/b"}, err: "2 URI SANs"},
		{name: "other scheme", uris: []string{"https://example.org/agent/a"}, err: "not a spiffe URI"},
		{name: "no trust domain", uris: []string{"spiffe:///agent/a"}, err: "trust domain is empty"},
		{name: "port", uris: []string{"spiffe://example.org:1/agent/a"}, err: "':'"},
		{name: "upper-case trust domain", uris: []string{"spiffe://Example.org/agent/a"}, err: "'E'"},
		{name: "relay", uris: []string{"spiffe://example.org/relay"}, err: "a relay's"},
		{name: "CA", uris: []string{"spiffe://example.org"}, err: `path ""`},
		{name: "other path", uris: []string{"spiffe://example.org/workload/a"}, err: `path "/workload/a"`},
		{name: "no name", uris: []string{"spiffe://example.org/agent/"}, err: "empty"},
		{name: "two segments", uris: []string{"spiffe://example.org/agent/a/b"}, err: "'/'"},
		{name: "bad name", uris: []string{"spiffe://example.org/agent/mySite"}, err: "'S'"},
		{name: "escaped", uris: []string{"spiffe://example.org/agent/%61bc"}, err: "beside"},
		{name: "query", uris: []string{"spiffe://example.org/agent/a?x=1"}, err: "beside"},
		{name: "user", uris: []string{"spiffe://root@example.org/agent/a"}, err: "beside"},
		{name: "fragment", uris: []string{"spiffe://example.org/agent/a#b"}, err: "beside"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert := mutate(&x509.Certificate{}, []func(*x509.Certificate){uris(tt.uris...)})
			got, err := mtls.PeerIDFromCertificate(cert)
			if tt.err == "" && err != nil {
				t.Fatalf("PeerIDFromCertificate(%q) error = %v", tt.uris, err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("PeerIDFromCertificate(%q) error = %v, want one with %q", tt.uris, err, tt.err)
			}
			if got != tt.want {
				t.Errorf("PeerIDFromCertificate(%q) = %v, want %v", tt.uris, got, tt.want)
			}
			if tt.err == "" && got.String() != tt.uris[0] {
				t.Errorf("String() = %q, want %q", got, tt.uris[0])
			}
		})
	}
}

func TestPeerIDErrorIsBounded(t *testing.T) {
	cert := mutate(&x509.Certificate{}, []func(*x509.Certificate){uris("spiffe://example.org/agent/" + strings.Repeat("é", 30000))})
	if _, err := mtls.PeerIDFromCertificate(cert); err == nil || len(err.Error()) > 1000 {
		t.Errorf("error has %d bytes, want a stranger's name cut short", len(err.Error()))
	}
}

func TestPeerIDFromStateNeedsVerification(t *testing.T) {
	leaf := mutate(&x509.Certificate{}, []func(*x509.Certificate){uris("spiffe://example.org/agent/a")})
	chain := []*x509.Certificate{leaf}
	for name, state := range map[string]tls.ConnectionState{
		"handshake not complete": {PeerCertificates: chain, VerifiedChains: [][]*x509.Certificate{chain}},
		"not verified":           {HandshakeComplete: true, PeerCertificates: chain},
		"nobody":                 {HandshakeComplete: true},
	} {
		if id, err := mtls.PeerIDFromState(state); err == nil {
			t.Errorf("%s: PeerIDFromState = %v, want an error", name, id)
		}
	}
	state := tls.ConnectionState{HandshakeComplete: true, PeerCertificates: chain, VerifiedChains: [][]*x509.Certificate{chain}}
	if id, err := mtls.PeerIDFromState(state); err != nil || id.Agent != "a" {
		t.Errorf("PeerIDFromState = %v, %v, want agent a", id, err)
	}
}
