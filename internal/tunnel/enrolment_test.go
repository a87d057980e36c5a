package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// enrolment is a tunnelserver.Enrolment.
type enrolment struct {
	certificates *mtls.Reloader
	protocol     string
	taken        chan *tls.Conn
	renewed      chan string // the agent and its request
	cannot       bool
}

// otherProtocol is one more that the port speaks.
const otherProtocol = "relay-other/1"

func newEnrolment(certificates *mtls.Reloader, protocol string) *enrolment {
	return &enrolment{certificates: certificates, protocol: protocol, taken: make(chan *tls.Conn, 1), renewed: make(chan string, 1)}
}

func (e *enrolment) TLSConfig() *tls.Config {
	return e.certificates.Material().EnrolmentTLSConfig(e.protocol)
}
func (e *enrolment) Take(conn *tls.Conn) { e.taken <- conn }
func (e *enrolment) CanSign() bool       { return !e.cannot }

func (e *enrolment) Renew(certificate *x509.Certificate, request []byte, _ string) (*relayv1.IssuedCertificate, error) {
	id, err := mtls.PeerIDFromCertificate(certificate)
	e.renewed <- id.Agent + " " + string(request)
	return &relayv1.IssuedCertificate{Chain: [][]byte{[]byte("next")}}, err
}

// TestProtocolsAreApart: who offers the protocol of enrolment, or another one, comes to it and to nothing else, whatever else they offer; who does not
// meets mutual TLS.
func TestProtocolsAreApart(t *testing.T) {
	h := newHouse(t, nil)
	for _, protocols := range [][]string{{enrol.Protocol}, {"h2", enrol.Protocol}, {otherProtocol}, {"h2", otherProtocol}} {
		service := h.enrolment
		if protocols[len(protocols)-1] == otherProtocol {
			service = h.other
		}
		conn := must[*tls.Conn](t)(tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}))
		if got := conn.ConnectionState().NegotiatedProtocol; got != service.protocol {
			t.Errorf("offered %v, it speaks %q", protocols, got)
		}
		taken := <-service.taken
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		said := make([]byte, 5)
		if _, err := io.ReadFull(taken, said); err != nil || string(said) != "hello" {
			t.Errorf("it hears %q, %v", said, err)
		}
		taken.Close()
		if n, err := conn.Read(said); n > 0 || err == nil {
			t.Errorf("something else speaks on it: %q", said[:n])
		}
		conn.Close()
	}
	conn := must[*tls.Conn](t)(tls.Dial("tcp", h.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate it says %v", err)
	}
}

// TestRenewIsOfTheSession: whose certificate is renewed says the connection.
func TestRenewIsOfTheSession(t *testing.T) {
	h := newHouse(t, nil)
	ctx, a := h.greet("site", hello())
	if !tunnel.Has(a.welcome.GetCapabilities(), relayv1.Capability_CAPABILITY_RENEW) {
		t.Error("the relay does not say that it renews")
	}
	for name, call := range map[string]func(context.Context, *relayv1.RenewRequest) error{
		"another number": func(ctx context.Context, in *relayv1.RenewRequest) error {
			_, err := a.client.Renew(ctx, &relayv1.RenewRequest{Session: in.GetSession() + 1})
			return err
		},
		"another connection": func(ctx context.Context, in *relayv1.RenewRequest) error {
			_, err := h.dialRaw("other").client.Renew(ctx, in)
			return err
		},
	} {
		if err := call(ctx, &relayv1.RenewRequest{Session: a.welcome.GetSession()}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := a.client.Renew(ctx, &relayv1.RenewRequest{Session: a.welcome.GetSession(), CertificateRequest: []byte("request")})
	if err != nil || string(out.GetIssued().GetChain()[0]) != "next" {
		t.Fatalf("Renew() = %v, %v", out, err)
	}
	if got := <-h.enrolment.renewed; got != "site request" {
		t.Errorf("renewed is %q", got)
	}
}

// TestRelayThatCannotSign: it does not say that it renews, and is not asked.
func TestRelayThatCannotSign(t *testing.T) {
	h := newHouse(t, nil)
	h.enrolment.cannot = true
	ctx, a := h.greet("site", hello())
	if tunnel.Has(a.welcome.GetCapabilities(), relayv1.Capability_CAPABILITY_RENEW) {
		t.Error("the relay says that it renews")
	}
	if _, err := a.client.Renew(ctx, &relayv1.RenewRequest{Session: a.welcome.GetSession()}); status.Code(err) != codes.Unimplemented {
		t.Errorf("Renew() = %v", err)
	}
}
