package mtls

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Role is which end of the tunnel a certificate is for.
type Role int

// The two ends. The zero value is no role.
const (
	Relay Role = iota + 1
	Agent
)

// String returns the word for the end: relay or agent.
func (r Role) String() string {
	switch r {
	case Relay:
		return "relay"
	case Agent:
		return "agent"
	default:
		return fmt.Sprintf("Role(%d)", int(r))
	}
}

// Files names the PEM files of one end. All are required but the last.
type Files struct {
	// CertFile holds the certificate of this end, its own first, then any intermediate ones.
	CertFile string
	// KeyFile holds the private key of that certificate, not encrypted. A [Reloader] warns of one that others may read.
	KeyFile string
	// CAFile holds the certificate authorities that the other end's certificate is verified against, one or more: during
	// a change of the CA it holds the old and the new one.
	CAFile string
	// OwnCAFile is the relay's own authority, which is trusted beside those: for agents of its own trust domain, and for no others. Empty for
	// none, and where CAFile is that authority already.
	OwnCAFile string
}

// Material is what one end needs for its handshakes, read from [Files] at one moment. It is immutable.
type Material struct {
	role  Role
	files Files
	cert  tls.Certificate
	chain []*x509.Certificate // of cert
	roots *x509.CertPool
	cas   []*x509.Certificate // what is in roots
	own   *ownCA              // nil for none
	// trustDomain is what the relay's own certificate says; empty for an agent, and for a relay whose certificate does not
	// say. A relay that has one takes agents of that trust domain only.
	trustDomain string
	// authority is the CA of the CA file that the relay's own certificate ends at; nil if there is none, as with a certificate of a public CA, for the
	// reason in unsigned, and for an agent.
	authority *x509.Certificate
	unsigned  error
	warnings  []string
	renewal   string // what to do when the certificate has ended; empty for what is done with the relay's own CA
}

// Leaf returns the certificate of this end. It must not be modified.
func (m *Material) Leaf() *x509.Certificate { return m.cert.Leaf }

// Certificate returns the certificate of this end with its chain and key, whatever its validity. It must not be modified.
func (m *Material) Certificate() *tls.Certificate { return &m.cert }

// Roots returns the CAs of the CA file. It must not be modified.
func (m *Material) Roots() *x509.CertPool { return m.roots }

// NotAfter returns when the certificate of this end expires.
func (m *Material) NotAfter() time.Time { return m.cert.Leaf.NotAfter }

// Warnings returns what is odd in the files and not wrong, one line each that names the file: parts that could not be read, and
// an agent's certificate that no CA of the CA file signed. It must not be modified.
func (m *Material) Warnings() []string { return m.warnings }

// CheckValidity returns a [*ValidityError] if the certificate of this end is expired or not yet valid at the given time.
func (m *Material) CheckValidity(now time.Time) error {
	if now.Before(m.cert.Leaf.NotBefore) || now.After(m.cert.Leaf.NotAfter) {
		return &ValidityError{
			Role: m.role, CertFile: m.files.CertFile,
			NotBefore: m.cert.Leaf.NotBefore, NotAfter: m.cert.Leaf.NotAfter, Now: now, Renewal: m.renewal,
		}
	}
	return nil
}

// Load reads the files of one end and checks everything that can be checked without the other: that the files can be
// read, that the key is the certificate's, that the certificate is for this role, is valid today, and, for a relay, that it
// is signed by a CA of the CA file. Errors are one line that names the file. A certificate outside its validity is a
// [*ValidityError].
//
// A relay's certificate that carries no relay URI may come from another CA than the agents' certificates (a public one):
// for it the last check is left out. For an agent it is a warning: its CA file verifies the relay, and the relay is the
// judge of the agent.
func Load(role Role, files Files) (*Material, error) {
	m, err := load(role, files)
	if err != nil {
		return nil, err
	}
	if err := m.CheckValidity(time.Now()); err != nil {
		return nil, err
	}
	return m, nil
}

// load is Load without the check of the dates: a [Reloader] holds a certificate whose time is over or has not come.
func load(role Role, files Files) (*Material, error) {
	m := &Material{role: role, files: files, roots: x509.NewCertPool()}
	own, err := m.readCertificates("certificate", files.CertFile)
	if err != nil {
		return nil, err
	}
	chain := own.certs
	if len(own.faults) > 0 && own.faults[0].line < own.first {
		return nil, fmt.Errorf("reading certificate file %q: what comes first cannot be read, and has to be the certificate of this %s: %v", files.CertFile, role, own.faults[0])
	}
	key, err := m.readKey(files.KeyFile)
	if err != nil {
		return nil, err
	}
	cas, err := m.readCertificates("CA", files.CAFile)
	if err != nil {
		return nil, err
	}

	if m.cert, err = newCertificate(chain, key); err != nil {
		return nil, fmt.Errorf("certificate %q and key %q do not belong together: %w", files.CertFile, files.KeyFile, err)
	}
	m.chain = chain
	for _, ca := range cas.certs {
		// The verification trusts whatever is in the pool: a leaf in it would be trusted as itself.
		if !ca.IsCA {
			return nil, fmt.Errorf("CA file %q holds the certificate of %q, which is not a CA", files.CAFile, clip(ca.Subject.String()))
		}
		m.trust(ca)
	}
	if err := checkRole(role, chain[0]); err != nil {
		return nil, fmt.Errorf("certificate %q is not for this %s: %w", files.CertFile, role, err)
	}
	way, err := checkIssuer(chain, m.roots)
	m.unsigned = err
	if role == Relay {
		m.trustDomain = relayTrustDomain(chain[0])
		if err == nil {
			m.authority = way[len(way)-1]
		}
		if files.OwnCAFile != "" {
			return m, m.trustOwn(files)
		}
		if m.trustDomain == "" {
			return m, nil
		}
	}
	switch {
	case err != nil && role == Relay:
		return nil, fmt.Errorf("certificate %q is not signed by a CA in %q: %w (where two CAs are in use, put both in the file)",
			files.CertFile, files.CAFile, err)
	case err != nil:
		m.warnings = append(m.warnings, fmt.Sprintf("certificate %q is not signed by a CA in %q, as it would be if both were from one relay: %v (the relay decides whether it takes the certificate)",
			files.CertFile, files.CAFile, err))
	}
	return m, nil
}

func (m *Material) trust(ca *x509.Certificate) {
	m.roots.AddCert(ca)
	m.cas = append(m.cas, ca)
}

// checkRole refuses the certificate of the other end, the mistake that is made when files are copied.
func checkRole(role Role, leaf *x509.Certificate) error {
	id, idErr := PeerIDFromCertificate(leaf)
	switch role {
	case Relay:
		if idErr == nil {
			return fmt.Errorf("it is the certificate of agent %q", id.Agent)
		}
		return checkServerAuth(leaf)
	case Agent:
		if idErr != nil {
			return idErr
		}
		return checkClientAuth(leaf)
	default:
		return fmt.Errorf("unknown role %d", int(role))
	}
}

// checkServerAuth wants the usage spelled out, where X.509 would also accept a certificate that names none: what may
// stand for a relay towards every agent was made for that.
func checkServerAuth(leaf *x509.Certificate) error {
	if slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	return errors.New("it lacks the extended key usage serverAuth")
}

// checkClientAuth follows X.509: without any extended key usage a certificate is for every use. That it is an agent's is
// said by its URI.
func checkClientAuth(leaf *x509.Certificate) error {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return nil
	}
	if slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	return errors.New("it lacks the extended key usage clientAuth")
}

// checkIssuer verifies the chain at a time when its leaf is valid, so that the dates of the leaf are the business of
// CheckValidity alone. It returns the way from the leaf to the root.
func checkIssuer(chain []*x509.Certificate, roots *x509.CertPool) (way []*x509.Certificate, err error) {
	leaf, at := chain[0], time.Now()
	if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
		at = leaf.NotBefore
	}
	ways, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: poolOf(chain[1:]),
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("its issuer is %q: %w", clip(leaf.Issuer.String()), err)
	}
	return ways[0], nil
}

func poolOf(certs []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// readCertificates reads a file, and warns of what is lost of it.
func (m *Material) readCertificates(what, path string) (certificates, error) {
	text, err := readFile(what, path)
	if err != nil {
		return certificates{}, err
	}
	parsed, err := parseCertificates(text)
	if err != nil {
		return certificates{}, fmt.Errorf("reading %s file %q: %w", what, path, err)
	}
	m.warnOf(what, path, parsed.faults)
	return parsed, nil
}

// readKey reads the file of the key.
func (m *Material) readKey(path string) (crypto.Signer, error) {
	text, err := readFile("key", path)
	if err != nil {
		return nil, err
	}
	key, faults, err := parsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("reading key file %q: %w", path, err)
	}
	m.warnOf("key", path, faults)
	return key, nil
}

func (m *Material) warnOf(what, path string, faults []pemFault) {
	for _, fault := range faults {
		m.warnings = append(m.warnings, fmt.Sprintf("%s file %q is read without what cannot be: %v", what, path, fault))
	}
}

func readFile(what, path string) ([]byte, error) {
	if path == "" {
		return nil, fmt.Errorf("no %s file is given", what)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s file: %w", what, err)
	}
	return text, nil
}
