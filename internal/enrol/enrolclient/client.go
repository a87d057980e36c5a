// Package enrolclient is the agent's end of enrolment: it asks relays for a first certificate with a join token, and for the next one after a
// certificate that has ended (I1 to I3, I5).
//
// It promises that no secret leaves before the relay has shown that it is the one that is meant: by the pin of the token, or by the CAs that the agent
// has. What relays answer is bounded, in bytes and in time. Start reading at [Client], then at [Join], which keeps what it gets.
package enrolclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"google.golang.org/grpc"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel/relayconn"
)

// Config says how relays are reached.
type Config struct {
	// Proxy returns the HTTP proxy that is asked to CONNECT to a relay, nil for none. Nil is none for all.
	Proxy func(address string) (*url.URL, error)
	// Dial opens the connections, to a relay or to its proxy; nil dials the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks relays for certificates. It is safe for concurrent use.
type Client struct{ cfg Config }

// New returns a client.
func New(cfg Config) *Client {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	return &Client{cfg}
}

// Names are what an agent asks to be called.
type Names struct {
	// Name is the agent's. Empty: that of the token, and for a token that needs one Otherwise, unless that is empty too.
	Name, Otherwise string
}

// Enroll exchanges a token for a certificate; request is as in EnrollRequest. Its relays are asked in their order until one signs. The error is
// an [*Error].
func (c *Client) Enroll(ctx context.Context, token *enrol.Token, names Names, request []byte) (*relayv1.IssuedCertificate, error) {
	issued, err := c.enroll(ctx, token, names, request)
	refused, ok := errors.AsType[*Error](err)
	if !ok || !refused.noFallback || names.Name != "" || names.Otherwise == "" {
		return issued, err
	}
	// The relay is of a release that knows no fallback.
	issued, err = c.enroll(ctx, token, Names{Name: names.Otherwise}, request)
	if also, ok := errors.AsType[*Error](err); ok {
		err = &Error{Reason: also.Reason, Later: also.Later, text: fmt.Sprintf("%s; and as %q: %s", refused.text, names.Otherwise, also.text)}
	}
	return issued, err
}

// enroll is Enroll, with one name at most for relays that know no other.
func (c *Client) enroll(ctx context.Context, token *enrol.Token, names Names, request []byte) (*relayv1.IssuedCertificate, error) {
	in := &relayv1.EnrollRequest{TokenId: token.ID[:], TokenSecret: token.Secret[:], Name: names.Name, CertificateRequest: request}
	if names.Name == "" {
		in.FallbackName = names.Otherwise
	}
	return each(token.Addresses, func(address string) (issued *relayv1.IssuedCertificate, err error) {
		verify := func(host string, state tls.ConnectionState) error { return verifyPin(token.CA, host, state) }
		err = c.call(ctx, address, &tls.Config{VerifyConnection: verifying(address, verify)}, func(ctx context.Context, relay relayv1.EnrolmentServiceClient) error {
			answer, err := relay.Enroll(ctx, in)
			issued = answer.GetIssued()
			return err
		})
		return issued, err
	})
}

// RenewLate asks for the next certificate after that of the agent, which may have ended. The relays are asked in their order until one signs. The error is
// an [*Error].
func (c *Client) RenewLate(ctx context.Context, relays []string, own *mtls.Material, request []byte) (*relayv1.IssuedCertificate, error) {
	return each(relays, func(address string) (*relayv1.IssuedCertificate, error) {
		return c.renewLate(ctx, address, own, request)
	})
}

// renewLate asks one relay.
func (c *Client) renewLate(ctx context.Context, address string, own *mtls.Material, request []byte) (issued *relayv1.IssuedCertificate, err error) {
	verify := func(host string, state tls.ConnectionState) error { return verifyRelay(own.Roots(), host, state) }
	config := &tls.Config{
		VerifyConnection:     verifying(address, verify),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.Certificate(), nil },
	}
	err = c.call(ctx, address, config, func(ctx context.Context, relay relayv1.EnrolmentServiceClient) error {
		answer, err := relay.RenewLate(ctx, &relayv1.RenewLateRequest{CertificateRequest: request})
		issued = answer.GetIssued()
		return err
	})
	return issued, err
}

// Revoked asks a relay whether the certificate of the agent is revoked, and returns its words. A relay that cannot tell, as one that has not issued it, or
// that is not reached, has not said so. Nothing is issued.
func (c *Client) Revoked(ctx context.Context, address string, own *mtls.Material) (reason string, revoked bool) {
	_, err := c.renewLate(ctx, address, own, nil)
	if refusal, ok := errors.AsType[*enrol.Refusal](err); ok && refusal.Reason == enrol.ReasonRevoked {
		return refusal.Message, true
	}
	return "", false
}

// call opens a connection to a relay for one call.
func (c *Client) call(ctx context.Context, address string, config *tls.Config, ask func(context.Context, relayv1.EnrolmentServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, enrol.AttemptTimeout)
	defer cancel()
	raw, err := c.dial(ctx, address)
	if err != nil {
		return err
	}
	defer raw.Close()
	config.MinVersion, config.NextProtos, config.ServerName = tls.VersionTLS13, []string{enrol.Protocol}, hostOf(address)
	config.InsecureSkipVerify = true // Not less verification but our own, in VerifyConnection.
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return explainHandshake(ctx, err)
	}
	ready, err := relayconn.AwaitRelay(ctx, conn)
	if err != nil {
		return explainHandshake(ctx, err)
	}
	cc, err := relayconn.NewClient(ready, conn.ConnectionState(), address,
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(enrol.MaxMessageBytes)), grpc.WithMaxHeaderListSize(maxHeaderBytes))
	if err != nil {
		return err
	}
	defer cc.Close() //nolint:errcheck // The call has its answer by then, or never will.
	return explainCall(ask(ctx, relayv1.NewEnrolmentServiceClient(cc)))
}

// maxHeaderBytes bounds the headers of an answer. A refusal is one of them.
const maxHeaderBytes = 16 << 10

// dial opens a connection to a relay, through its proxy if there is one.
func (c *Client) dial(ctx context.Context, address string) (net.Conn, error) {
	var proxy *url.URL
	if c.cfg.Proxy != nil {
		var err error
		if proxy, err = c.cfg.Proxy(address); err != nil {
			return nil, err
		}
	}
	if proxy == nil {
		conn, err := c.cfg.Dial(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("dialling relay: %w", err)
		}
		return conn, nil
	}
	conn, err := c.cfg.Dial(ctx, "tcp", relayconn.ProxyAddress(proxy))
	if err != nil {
		return nil, fmt.Errorf("dialling proxy %s: %w", proxy.Host, err)
	}
	stop := relayconn.EndWith(ctx, conn)
	defer stop()
	tunnelled, err := relayconn.Connect(conn, proxy, address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return tunnelled, nil
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// verifying judges a relay by its protocol, and then by verify. It runs before the client sends anything but its hello.
func verifying(address string, verify func(host string, state tls.ConnectionState) error) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if state.NegotiatedProtocol != enrol.Protocol {
			return errNoEnrolment
		}
		return verify(hostOf(address), state)
	}
}

// verifyPin finds the CA of the pin among what the relay shows, and verifies the relay's certificate by it alone.
func verifyPin(pin enrol.Pin, host string, state tls.ConnectionState) error {
	met := &PinError{Want: pin}
	for _, cert := range state.PeerCertificates {
		switch got := enrol.PinOf(cert.Raw); {
		case got == pin && cert.IsCA && cert.BasicConstraintsValid:
			roots := x509.NewCertPool()
			roots.AddCert(cert)
			if now := time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
				return &distrustError{fmt.Errorf("its CA is valid from %s to %s, and this machine's clock says %s: check the clock",
					cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))}
			}
			return verifyRelay(roots, host, state)
		case cert.IsCA:
			met.Met, met.Shown = got, true
		}
	}
	return &distrustError{met}
}

func verifyRelay(roots *x509.CertPool, host string, state tls.ConnectionState) error {
	err := mtls.VerifyRelay(roots, host, state)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		err = fmt.Errorf("%w (is this machine's clock right?)", err)
	}
	if err != nil {
		return &distrustError{err}
	}
	return nil
}
