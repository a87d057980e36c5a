package membership

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/mtls"
)

// renewalCheck is how often it is looked whether a certificate has to be renewed.
const renewalCheck = time.Hour

// CertificatesConfig is what [NewCertificates] needs.
type CertificatesConfig struct {
	// Dir has them. Required.
	Dir *Dir
	// Renew asks another member to sign a request (PKCS #10, DER); for a witness, which cannot sign itself.
	Renew func(ctx context.Context, request []byte) (certificate []byte, err error)
	// Logger is required.
	Logger *slog.Logger
}

// Certificates are those by which this member and the others know one another. They are safe for concurrent use.
type Certificates struct {
	cfg     CertificatesConfig
	current atomic.Pointer[tls.Certificate]
}

// NewCertificates reads the certificate of a member.
func NewCertificates(cfg CertificatesConfig) (*Certificates, error) {
	pair, err := readPair(cfg.Dir.file(pairFile))
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of member %q: %w", cfg.Dir.Member().Name, err)
	}
	c := &Certificates{cfg: cfg}
	c.current.Store(&pair)
	return c, nil
}

// readPair reads a file with certificate and key.
func readPair(file string) (tls.Certificate, error) {
	text, err := fileowner.ReadFile(file)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return pair, fmt.Errorf("%s: %w", file, err)
	}
	return pair, nil
}

func encodePair(der []byte, key crypto.Signer) ([]byte, error) {
	text, err := mtls.EncodePrivateKey(key)
	return append(mtls.EncodeCertificates(der), text...), err
}

// ServerTLS is with which members are awaited on the port for agents: they show a certificate of the cluster's authority, and nobody else is let in. The
// protocol is for the caller to set.
func (c *Certificates) ServerTLS() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, c.cfg.Dir.ca.pool()
	config.SessionTicketsDisabled = true // a ticket would outlive a removal
	config.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := c.identify(state, x509.ExtKeyUsageClientAuth)
		return err
	}
	return config
}

// ClientTLS is with which a member is dialled. Which address it has does not count: it must be the named one; any member if the name is empty. The protocol is
// for the caller to set.
func (c *Certificates) ClientTLS(name string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
	config.InsecureSkipVerify = true // Not less verification but our own: by the authority of members and the name.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		met, err := c.identify(state, x509.ExtKeyUsageServerAuth)
		if err == nil && name != "" && met != name {
			err = fmt.Errorf("it is member %q, and not %q", met, name)
		}
		return err
	}
	return config
}

// Identify returns which member is at the other end of a connection that was made with one of the two. Whether it is one now the list of members says.
func (c *Certificates) Identify(state tls.ConnectionState) (name string, err error) {
	if !state.HandshakeComplete {
		return "", errors.New("reading which member it is: the TLS handshake is not complete")
	}
	return c.identify(state, x509.ExtKeyUsageAny)
}

func (c *Certificates) identify(state tls.ConnectionState, usage x509.ExtKeyUsage) (name string, err error) {
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("it shows no certificate of a member")
	}
	id, err := c.cfg.Dir.ca.verify(state.PeerCertificates[0], c.cfg.Dir.Member().Cluster, usage)
	return id.Name, err
}

// Run renews the certificate from half of its life on, until ctx ends.
func (c *Certificates) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		c.renewIfDue(ctx)
		timer.Reset(renewalCheck)
	}
}

func (c *Certificates) renewIfDue(ctx context.Context) {
	leaf := c.current.Load().Leaf
	if time.Now().Before(enrol.RenewFrom(leaf.NotBefore, leaf.NotAfter)) {
		return
	}
	pair, err := c.renew(ctx)
	if err != nil {
		c.cfg.Logger.Warn("the certificate of this member could not be renewed; trying again", slog.Time("not_after", leaf.NotAfter), slog.Any("err", err))
		return
	}
	c.current.Store(&pair)
	c.cfg.Logger.Info("the certificate of this member is renewed", slog.Time("not_after", pair.Leaf.NotAfter))
}

// renew puts a new certificate in the place of the present one. Etcd reads the file at each handshake.
func (c *Certificates) renew(ctx context.Context) (tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return tls.Certificate{}, err
	}
	d, m := c.cfg.Dir, c.cfg.Dir.Member()
	var der []byte
	if d.ca.key != nil {
		der, err = d.ca.sign(mtls.MemberID{Cluster: m.Cluster, Name: m.Name}, m.Peer, key.Public())
	} else {
		der, err = c.ask(ctx, key)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	text, err := encodePair(der, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return pair, fmt.Errorf("checking the new certificate: %w", err)
	}
	if id, err := d.ca.verify(pair.Leaf, m.Cluster, x509.ExtKeyUsageAny); err != nil || id.Name != m.Name {
		return pair, fmt.Errorf("checking the new certificate: it is of %q: %w", id.Name, err)
	}
	return pair, datadir.ReplaceFile(d.file(pairFile), text)
}

// ask has another member sign.
func (c *Certificates) ask(ctx context.Context, key crypto.Signer) ([]byte, error) {
	if c.cfg.Renew == nil {
		return nil, errors.New("this member has not the key of their authority, and nobody to ask")
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	return c.cfg.Renew(ctx, request)
}
