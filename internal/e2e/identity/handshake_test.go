//go:build linux

package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestHandshake: who is not an agent is refused by TLS itself. It gets an alert, and not one byte of HTTP/2.
func TestHandshake(t *testing.T) {
	t.Parallel()
	ca, stranger := certificate.New(t, "our CA"), certificate.New(t, "another CA")
	ofRelay := ca.Sign(t, "relay", certificate.RelayTemplate())
	relay := house.StartRelay(t, ofRelay.RelayFlags(ca)...)
	const identity = "spiffe://example.org/agent/site-a"

	tests := []struct {
		name    string
		cert    *certificate.Leaf
		maximum uint16
		wantErr string // of the alert; "" is welcome
	}{
		{"an agent", new(ca.Sign(t, "agent", certificate.AgentTemplate(t, identity))), 0, ""},
		{"no certificate", nil, 0, "certificate required"},
		{"an agent of another CA", new(stranger.Sign(t, "agent", certificate.AgentTemplate(t, identity))), 0, "unknown certificate authority"},
		{"an expired agent", new(ca.Sign(t, "expired", certificate.Expired(certificate.AgentTemplate(t, identity)))), 0, "expired"},
		{"the relay's own certificate", &ofRelay, 0, "bad certificate"},
		{"a certificate without identity", new(ca.Sign(t, "anonymous", certificate.AgentTemplate(t))), 0, "bad certificate"},
		{"an identity that is no agent's", new(ca.Sign(t, "service", certificate.AgentTemplate(t, "spiffe://example.org/service/site-a"))), 0, "bad certificate"},
		{"an impossible name", new(ca.Sign(t, "name", certificate.AgentTemplate(t, "spiffe://example.org/agent/Site_A"))), 0, "bad certificate"},
		{"two identities", new(ca.Sign(t, "two", certificate.AgentTemplate(t, identity, "spiffe://example.org/agent/site-b"))), 0, "bad certificate"},
		{"an agent that speaks TLS 1.2", new(ca.Sign(t, "old", certificate.AgentTemplate(t, identity))), tls.VersionTLS12, "protocol version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := firstBytes(relay.GRPC, ca, tt.cert, tt.maximum)
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
	if n, err := firstBytes(relay.GRPC, ca, tests[0].cert, 0); n == 0 {
		t.Errorf("an agent afterwards: %v", err)
	}
}

// firstBytes dials a relay and reads the frame that opens every HTTP/2 connection. The answer to a client certificate
// comes after the client's own handshake is over: only reading shows it.
func firstBytes(address string, relayCA *certificate.Authority, own *certificate.Leaf, maximum uint16) (int, error) {
	pool := x509.NewCertPool()
	pool.AddCert(relayCA.Cert)
	config := &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, MaxVersion: maximum}
	if own != nil {
		// Certificates would keep back what does not fit the relay's list of authorities.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own.TLS, nil }
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
	ca, stranger := certificate.New(t, "our CA"), certificate.New(t, "Corporate Inspection CA")
	relay := house.StartRelay(t, ca.Sign(t, "relay", certificate.RelayTemplate()).RelayFlags(ca)...)
	inspected := house.StartRelay(t, stranger.Sign(t, "relay", certificate.RelayTemplate()).RelayFlags(ca)...)
	elsewhere := certificate.RelayTemplate()
	elsewhere.DNSNames, elsewhere.IPAddresses = []string{"relay.example.org"}, nil
	misnamed := house.StartRelay(t, ca.Sign(t, "misnamed", elsewhere).RelayFlags(ca)...)
	const identity = "spiffe://example.org/agent/site-a"
	good := ca.Sign(t, "agent", certificate.AgentTemplate(t, identity))
	// An agent looks at its own certificate before it dials, so it has to believe in both authorities to be refused.
	both := &certificate.Authority{CAFile: filepath.Join(t.TempDir(), "both.crt")}
	client.WriteFile(t, both.CAFile, client.ReadFile(t, ca.CAFile)+client.ReadFile(t, stranger.CAFile))

	tests := []struct {
		name  string
		relay string
		flags []string
		want  []string
	}{
		{"refused by the relay", relay.GRPC, stranger.Sign(t, "agent", certificate.AgentTemplate(t, identity)).AgentFlags(both), []string{"relay", "refus", "certificate"}},
		{"TLS is inspected", inspected.GRPC, good.AgentFlags(ca), []string{"Corporate Inspection CA", "inspect"}},
		{"another host name", misnamed.GRPC, good.AgentFlags(ca), []string{"127.0.0.1", "other names"}},
		{"nobody there", program.FreeAddress(t), good.AgentFlags(ca), []string{"refused"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			web := program.FreeAddress(t)
			p := program.Start(t, program.Command{Path: program.RelayAgent(), Args: append([]string{
				"--relay.address=" + tt.relay, "--web.listen-address=" + web,
			}, tt.flags...)})
			client.Eventually(t, 20*time.Second, "the reason in the log", func() error { return program.Warned(p.Log.String(), tt.want) })
			r, err := client.Fetch("PUT", "http://"+web+"/metrics/job/j", strings.NewReader("m 1\n"))
			if err != nil || r.Status != 202 || !strings.Contains(r.Body, tt.relay) {
				t.Errorf("a push meanwhile: %d %q %v, want 202 with the reason", r.Status, r.Body, err)
			}
		})
	}
}
