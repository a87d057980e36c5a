package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"pushrelay/internal/enrol"
	"pushrelay/internal/mtls"
)

const (
	pendingPrefix = "pending-"
	pendingSuffix = ".key"
)

// NewKey returns a new key for a certificate.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return key, nil
}

// Request returns a certificate request (PKCS #10, DER) of the key. It asks for nothing but a certificate: who the agent is says the relay.
func Request(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return der, nil
}

// PendingKey returns the key with which a token is exchanged. It is on the disk before it is used, and the same until [Store.DropPending]: the relay
// answers a token again that comes with the same key, so that an answer which was lost, with the agent or on the way, costs no token.
func (s Store) PendingKey(id enrol.TokenID) (crypto.Signer, error) {
	if err := s.make(); err != nil {
		return nil, fmt.Errorf("keeping the key of an enrolment: %w", err)
	}
	if err := s.checkLinks(); err != nil {
		return nil, err
	}
	switch text, err := readFile(s.pending(id)); {
	case err == nil:
		key, err := mtls.ParsePrivateKey(text)
		if err != nil {
			return nil, fmt.Errorf("reading the key of an enrolment, %s: %w (remove it, and if the token is used up by then, get another one)", s.pending(id), err)
		}
		return key, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading the key of an enrolment: %w", err)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	text, err := mtls.EncodePrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := s.disk.replace(s.pending(id), text); err != nil {
		return nil, fmt.Errorf("keeping the key of an enrolment: %w", err)
	}
	return key, nil
}

// DropPending removes the key of an enrolment that is over.
func (s Store) DropPending(id enrol.TokenID) error {
	if err := s.disk.removeAll(s.pending(id)); err != nil {
		return fmt.Errorf("removing the key of an enrolment that is over: %w", err)
	}
	return nil
}

func (s Store) pending(id enrol.TokenID) string {
	return filepath.Join(s.dir, pendingPrefix+id.String()+pendingSuffix)
}

// dropTaken removes keys of enrolments that are those of identities: the agent ended before it could.
func (s Store) dropTaken(names []string, identities []*Identity) {
	for _, name := range names {
		if !strings.HasPrefix(name, pendingPrefix) || !strings.HasSuffix(name, pendingSuffix) {
			continue
		}
		text, err := readFile(filepath.Join(s.dir, name))
		if err != nil {
			continue
		}
		key, err := mtls.ParsePrivateKey(text)
		if err != nil {
			continue
		}
		for _, id := range identities {
			if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); ok && public.Equal(id.Certificate.PublicKey) {
				s.disk.removeAll(filepath.Join(s.dir, name)) //nolint:errcheck // It is tried again at the next start.
			}
		}
	}
}
