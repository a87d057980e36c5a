// Package authority is the relay's own certificate authority: it makes the CA at the first start, keeps it in a
// directory, and issues the certificates of agents and relays.
//
// It promises that a CA is never replaced behind anybody's back: a directory that holds half of one is an error, since a
// new CA would lock out every agent. What it writes is there whole or not at all, also after a power cut, and several
// processes may use one directory at the same time (a command that issues a certificate while the relay runs).
//
// It needs a Unix: file locks and owners. It must not know connections, sessions or flags. What an identity looks like is [pushrelay/internal/mtls]'s. Start
// reading at [OpenOrCreate], then [Authority.EnsureRelay] and [Authority.IssueAgent].
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"path/filepath"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/mtls"
)

// DefaultTrustDomain is the trust domain of an authority whose [Config] names none.
const DefaultTrustDomain = "pushrelay"

// The lifetimes of rule T8.
const (
	caYears  = 10
	leafLife = LongestLife
)

// LongestLife is how long a certificate lives at most that an authority issues, from when it is issued.
const LongestLife = 365 * 24 * time.Hour

// ErrNoAuthority is returned by [Open] for a directory that holds no authority, nor a part of one.
var ErrNoAuthority = errors.New("no certificate authority")

// Config is what a new authority needs.
type Config struct {
	// TrustDomain is the host part of all identities that the authority issues. It is written into the CA's certificate
	// and cannot change afterwards. Empty is DefaultTrustDomain for a new authority, and whatever an existing one has.
	TrustDomain string
	// Marker is a file outside of the directory that is there once the directory had an authority, see [Authority.Mark]:
	// one that got lost with its directory is missed then, and not replaced. Empty for none.
	Marker string
}

// Authority is an open certificate authority. It is immutable and safe for concurrent use; nothing has to be closed.
type Authority struct {
	dir         string
	cert        *x509.Certificate
	key         crypto.Signer
	caPEM       []byte
	trustDomain string
	created     bool
}

// Create makes a new authority in dir (ca.crt, ca.key), which is created if needed. It is an error, wrapping
// [fs.ErrExist], if there is one already.
func Create(dir string, cfg Config) (*Authority, error) {
	var a *Authority
	err := inDir(dir, func() error {
		_, err := open(dir)
		switch {
		case err == nil:
			return fmt.Errorf("creating certificate authority in %q: %w", dir, fs.ErrExist)
		case !errors.Is(err, ErrNoAuthority):
			return err
		}
		a, err = create(dir, cfg)
		return err
	})
	return a, err
}

// Open opens the authority in dir. The error is [ErrNoAuthority] if there is none; if there is a part of one, it says
// what is missing and what can be done.
func Open(dir string) (*Authority, error) {
	if isDir, err := datadir.DirExists(dir); err != nil {
		return nil, fmt.Errorf("opening certificate authority: %w", err)
	} else if !isDir {
		return nil, fmt.Errorf("opening certificate authority in %q: %w", dir, ErrNoAuthority)
	}
	var a *Authority
	err := withLock(dir, func() error {
		var err error
		a, err = open(dir)
		return err
	})
	return a, err
}

// OpenOrCreate opens the authority in dir, and creates it if there is none. Of several processes that do so at once, one
// creates it. A trust domain in cfg that is not that of an existing authority is an error, and so is a marker without an
// authority.
func OpenOrCreate(dir string, cfg Config) (*Authority, error) {
	if isDir, err := datadir.DirExists(dir); err == nil && !isDir {
		if err := cfg.refuseLost(dir); err != nil {
			return nil, err // before an empty directory is left behind
		}
	}
	var a *Authority
	err := inDir(dir, func() error {
		var err error
		if a, err = open(dir); errors.Is(err, ErrNoAuthority) {
			a, err = create(dir, cfg)
		}
		if err == nil && cfg.TrustDomain != "" && cfg.TrustDomain != a.trustDomain {
			err = fmt.Errorf("certificate authority in %q is of trust domain %q, not %q", dir, a.trustDomain, cfg.TrustDomain)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// TrustDomain returns the host part of the identities that the authority issues.
func (a *Authority) TrustDomain() string { return a.trustDomain }

// CACertPEM returns the CA's certificate, which every agent and relay needs. It is no secret. The slice must not be
// modified.
func (a *Authority) CACertPEM() []byte { return a.caPEM }

// NotAfter returns when the CA expires, and with it all that it issued.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

func caPair(dir string) pair    { return newPair(dir, "ca") }
func relayPair(dir string) pair { return newPair(dir, "relay") }

// open reads the authority in dir. The lock of dir is held.
func open(dir string) (*Authority, error) {
	files := caPair(dir)
	if err := files.settle(); err != nil {
		return nil, fmt.Errorf("opening certificate authority: %w", err)
	}
	certPEM, cert, err := files.read()
	if errors.Is(err, errNoPair) {
		return nil, missing(dir)
	}
	if _, ok := errors.AsType[*brokenPairError](err); ok {
		return nil, fmt.Errorf("certificate authority in %q is not whole: %w: restore the files from a backup, or move the directory"+
			" away to begin a new authority, for which every agent needs a new certificate", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening certificate authority: %w", err)
	}
	if !cert.Leaf.IsCA {
		return nil, fmt.Errorf("opening certificate authority: %q is not the certificate of a CA", files.certFile)
	}
	trustDomain, err := mtls.AuthorityTrustDomain(cert.Leaf)
	if err != nil {
		return nil, fmt.Errorf("opening certificate authority: %q: %w", files.certFile, err)
	}
	return &Authority{
		dir: dir, cert: cert.Leaf, key: cert.PrivateKey.(crypto.Signer), caPEM: certPEM, trustDomain: trustDomain,
	}, nil
}

// missing tells an empty directory from one that lost its CA: certificates that only a CA can have made are left.
func missing(dir string) error {
	if _, _, err := relayPair(dir).read(); !errors.Is(err, errNoPair) {
		return fmt.Errorf("directory %q has a relay certificate but neither ca.crt nor ca.key: restore them from a backup, or move"+
			" the directory away to begin a new authority, for which every agent needs a new certificate", dir)
	}
	return fmt.Errorf("opening certificate authority in %q: %w", dir, ErrNoAuthority)
}

// create makes the CA. The lock of dir is held and there is none in it.
func create(dir string, cfg Config) (*Authority, error) {
	if err := cfg.refuseLost(dir); err != nil {
		return nil, err
	}
	trustDomain := cfg.TrustDomain
	if trustDomain == "" {
		trustDomain = DefaultTrustDomain
	}
	if err := mtls.CheckTrustDomain(trustDomain); err != nil {
		return nil, fmt.Errorf("creating certificate authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("creating certificate authority: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("creating certificate authority: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// A name of its own for every CA, so that errors which quote an issuer tell two of them apart.
		Subject:               pkix.Name{CommonName: caName(trustDomain, serial)},
		NotBefore:             now.Add(-mtls.Backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:                  []*url.URL{mtls.AuthorityURI(trustDomain)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("creating certificate authority: %w", err)
	}
	keyPEM, err := mtls.EncodePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("creating certificate authority: %w", err)
	}
	if err := caPair(dir).write(mtls.EncodeCertificates(der), keyPEM); err != nil {
		return nil, fmt.Errorf("creating certificate authority: %w", err)
	}
	// What is returned is what a later start will read.
	a, err := open(dir)
	if err == nil {
		a.created = true
	}
	return a, err
}

// caName keeps to the 64 characters that X.520 allows a common name.
func caName(trustDomain string, serial *big.Int) string {
	return fmt.Sprintf("%.50s CA %.8s", trustDomain, fmt.Sprintf("%032x", serial))
}

// newSerial returns 128 random bits: no two certificates of a CA share one, and none can be foretold.
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	if serial.Sign() == 0 {
		return nil, errors.New("drawing a serial number: random source returns zeros")
	}
	return serial, nil
}

// KeyFile returns where the CA's key is.
func (a *Authority) KeyFile() string { return caPair(a.dir).keyFile }

// CheckIssued returns an error unless this authority issued the certificate.
func (a *Authority) CheckIssued(cert *x509.Certificate) error {
	if err := cert.CheckSignatureFrom(a.cert); err != nil {
		return errors.New("it was issued by another CA")
	}
	return nil
}

// Files returns where EnsureRelay keeps the relay's own certificate, for [mtls.NewReloader].
func (a *Authority) Files() mtls.Files {
	files := relayPair(a.dir)
	return mtls.Files{CertFile: files.certFile, KeyFile: files.keyFile, CAFile: filepath.Join(a.dir, "ca.crt")}
}
