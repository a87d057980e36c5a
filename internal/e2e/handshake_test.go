//go:build linux

package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHandshake: who is not an agent is refused by TLS itself. It gets an alert, and not one byte of HTTP/2.
func TestHandshake(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "our CA"), newAuthority(t, "another CA")
	ofRelay := ca.sign(t, "relay", relayTemplate())
	relay := startRelay(t, ofRelay.relayFlags(ca)...)
	const identity = "spiffe://example.org/agent/site-a"

	tests := []struct {
		name    string
		cert    *leaf
		maximum uint16
		wantErr string // of the alert; "" is welcome
	}{
		{"an agent", new(ca.sign(t, "agent", agentTemplate(t, identity))), 0, ""},
		{"no certificate", nil, 0, "certificate required"},
		{"an agent of another CA", new(stranger.sign(t, "agent", agentTemplate(t, identity))), 0, "unknown certificate authority"},
		{"an expired agent", new(ca.sign(t, "expired", expired(agentTemplate(t, identity)))), 0, "expired"},
		{"the relay's own certificate", &ofRelay, 0, "bad certificate"},
		{"a certificate without identity", new(ca.sign(t, "anonymous", agentTemplate(t))), 0, "bad certificate"},
		{"an identity that is no agent's", new(ca.sign(t, "service", agentTemplate(t, "spiffe://example.org/service/site-a"))), 0, "bad certificate"},
		{"an impossible name", new(ca.sign(t, "name", agentTemplate(t, "spiffe://example.org/agent/Site_A"))), 0, "bad certificate"},
		{"two identities", new(ca.sign(t, "two", agentTemplate(t, identity, "spiffe://example.org/agent/site-b"))), 0, "bad certificate"},
		{"an agent that speaks TLS 1.2", new(ca.sign(t, "old", agentTemplate(t, identity))), tls.VersionTLS12, "protocol version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := firstBytes(relay.grpc, ca, tt.cert, tt.maximum)
			if tt.wantErr == "" {
				if err != nil {
					t.Errorf("handshake: %v, want an HTTP/2 connection", err)
				}
				return
			}
			if n != 0 {
				t.Errorf("the relay sent %d bytes to somebody who is no agent", n)
			}
			alert, ok := errors.AsType[*net.OpError](err)
			if !ok || alert.Op != "remote error" || !strings.Contains(alert.Error(), tt.wantErr) {
				t.Errorf("handshake: %v, want the relay's alert %q", err, tt.wantErr)
			}
		})
	}
	// Whoever was refused, the relay works.
	if n, err := firstBytes(relay.grpc, ca, tests[0].cert, 0); n == 0 {
		t.Errorf("an agent afterwards: %v", err)
	}
}

// firstBytes dials a relay and reads the frame that opens every HTTP/2 connection. The answer to a client certificate
// comes after the client's own handshake is over: only reading shows it.
func firstBytes(address string, relayCA *authority, own *leaf, maximum uint16) (int, error) {
	pool := x509.NewCertPool()
	pool.AddCert(relayCA.cert)
	config := &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, MaxVersion: maximum}
	if own != nil {
		// Certificates would keep back what does not fit the relay's list of authorities.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own.tls, nil }
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, config)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	return io.ReadFull(conn, make([]byte, 9))
}

// TestAgentSaysWhy: an agent that is refused, or that does not trust the relay, goes on taking pushes and says in its log
// what a person can do about it.
func TestAgentSaysWhy(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "our CA"), newAuthority(t, "Corporate Inspection CA")
	relay := startRelay(t, ca.sign(t, "relay", relayTemplate()).relayFlags(ca)...)
	inspected := startRelay(t, stranger.sign(t, "relay", relayTemplate()).relayFlags(ca)...)
	elsewhere := relayTemplate()
	elsewhere.DNSNames, elsewhere.IPAddresses = []string{"relay.example.org"}, nil
	misnamed := startRelay(t, ca.sign(t, "misnamed", elsewhere).relayFlags(ca)...)
	const identity = "spiffe://example.org/agent/site-a"
	good := ca.sign(t, "agent", agentTemplate(t, identity))
	// An agent looks at its own certificate before it dials, so it has to believe in both authorities to be refused.
	both := &authority{caFile: filepath.Join(t.TempDir(), "both.crt")}
	writeFile(t, both.caFile, readFile(t, ca.caFile)+readFile(t, stranger.caFile))

	tests := []struct {
		name  string
		relay string
		flags []string
		want  []string
	}{
		{"refused by the relay", relay.grpc, stranger.sign(t, "agent", agentTemplate(t, identity)).agentFlags(both), []string{"relay", "refus", "certificate"}},
		{"TLS is inspected", inspected.grpc, good.agentFlags(ca), []string{"Corporate Inspection CA", "inspect"}},
		{"another host name", misnamed.grpc, good.agentFlags(ca), []string{"127.0.0.1", "other names"}},
		{"nobody there", freeAddress(t), good.agentFlags(ca), []string{"refused"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			web := freeAddress(t)
			p := start(t, command{path: programs.relayAgent, args: append([]string{
				"--relay.address=" + tt.relay, "--web.listen-address=" + web,
			}, tt.flags...)})
			eventually(t, 20*time.Second, "the reason in the log", func() error { return warned(p.log.String(), tt.want) })
			r, err := fetch("PUT", "http://"+web+"/metrics/job/j", strings.NewReader("m 1\n"))
			if err != nil || r.status != 202 || !strings.Contains(r.body, tt.relay) {
				t.Errorf("a push meanwhile: %d %q %v, want 202 with the reason", r.status, r.body, err)
			}
		})
	}
}

// warned looks for a warning or an error that has all the words.
func warned(log string, words []string) error {
	for line := range strings.Lines(log) {
		if !isComplaint(line) {
			continue
		}
		all := true
		for _, word := range words {
			all = all && strings.Contains(strings.ToLower(line), strings.ToLower(word))
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no warning with %q in the log:\n%s", words, log)
}

func isComplaint(line string) bool {
	upper := strings.ToUpper(line)
	return strings.Contains(upper, "LEVEL=WARN") || strings.Contains(upper, "LEVEL=ERROR")
}
