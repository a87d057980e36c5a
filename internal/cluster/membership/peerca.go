package membership

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"pushrelay/internal/mtls"
)

// What a directory with an authority of members has, as a Secret of Kubernetes is laid out.
const (
	givenCAFile    = "tls.crt"
	givenCAKeyFile = "tls.key"
)

// proofLife is how long a relay that joins is known by what it has signed. It signs anew whenever it asks, and the clocks of two machines may differ.
const proofLife = time.Hour

// readPeerCA reads an authority that somebody has made for the members of a cluster.
func readPeerCA(dir string) (*authority, error) {
	a, err := readAuthority(filepath.Join(dir, givenCAFile), filepath.Join(dir, givenCAKeyFile))
	if err == nil {
		err = a.checkGiven()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the authority of members in --peer-ca-dir %s: %w", dir, err)
	}
	return a, nil
}

// checkGiven returns an error unless what the authority signs is a member to others, of both ends of a connection.
func (a *authority) checkGiven() error {
	if a.key == nil {
		return fmt.Errorf("%s, its key, is missing", givenCAKeyFile)
	}
	if public, ok := a.key.Public().(*ecdsa.PublicKey); !ok || public.Curve != elliptic.P256() {
		return errors.New("its key is none on the curve P-256: make an authority with an ECDSA key")
	}
	if !a.cert.IsCA {
		return fmt.Errorf("%s is not the certificate of an authority", givenCAFile)
	}
	id := mtls.MemberID{Cluster: "0", Name: "a"}
	der, err := a.sign(id, "a:1", a.key.Public())
	if err != nil {
		return err
	}
	signed, err := x509.ParseCertificate(der)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err == nil {
			_, err = a.verify(signed, id.Cluster, usage)
		}
	}
	if err != nil {
		return fmt.Errorf("nobody would take what it signs: %w", err)
	}
	return nil
}

// signJoining makes what proves that whoever joins under a name has the authority's key. It makes nobody a member.
func (a *authority) signJoining(name string, key crypto.Signer) (tls.Certificate, error) {
	der, err := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{mtls.JoiningURI(name)}, NotAfter: time.Now().Add(proofLife), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing the certificate that member %q joins by: %w", name, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// errProof is all that is told of a certificate that lets nobody in.
var errProof = errors.New("the certificate lets nobody in: the authority of this cluster's members has not signed it for that (relay-server cluster join --peer-ca-dir)")

// verifyJoining returns under which name somebody may join by a certificate, or errProof. That of a member is none: a witness has one, and not the key.
func (a *authority) verifyJoining(cert *x509.Certificate) (name string, err error) {
	if _, err := cert.Verify(x509.VerifyOptions{Roots: a.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return "", errProof
	}
	if name, err = mtls.JoiningNameFromCertificate(cert); err != nil {
		return "", errProof
	}
	return name, nil
}
