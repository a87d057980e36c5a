package mtls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
)

// FuzzPEM looks for a file with certificates or a key that is read otherwise once it is written by the book, that loses a block without a
// word, or of which a fault tells more than a line.
func FuzzPEM(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	cert, keyPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	f.Add(cert)
	f.Add(keyPEM)
	f.Add(append(append([]byte("\uFEFF# comment\n"), cert...), keyPEM...))
	f.Add(append(bytes.TrimSpace(cert), cert...))
	f.Add(append(cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n-----BEGIN X-----\n"...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: x\r\n\r\nAAAA\r\n-----END CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		oneLine := func(s string) {
			if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) }) || len(s) > 2<<10 {
				t.Errorf("a fault is %q", s)
			}
		}
		parsed, err := parseCertificates(text)
		if err != nil {
			oneLine(err.Error())
		} else {
			var written []byte
			for _, c := range parsed.certs {
				written = append(written, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			}
			again, err := parseCertificates(written)
			if err != nil || len(again.certs) != len(parsed.certs) || len(again.faults) > 0 {
				t.Fatalf("%d certificates are %d once they are written by the book, %v, %v", len(parsed.certs), len(again.certs), again.faults, err)
			}
			for i, c := range again.certs {
				if !c.Equal(parsed.certs[i]) {
					t.Errorf("certificate %d is another one", i)
				}
			}
			for _, fault := range parsed.faults {
				oneLine(fault.String())
			}
		}
		// What encoding/pem finds is found here too, or told.
		if err == nil {
			found := 0
			for rest := text; ; found++ {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				if block.Type != "CERTIFICATE" {
					found--
				}
			}
			if found > len(parsed.certs)+len(parsed.faults) {
				t.Errorf("of %d blocks there are %d certificates and %d faults", found, len(parsed.certs), len(parsed.faults))
			}
		}
		signer, faults, err := parsePrivateKey(text)
		if err != nil {
			oneLine(err.Error())
			return
		}
		for _, fault := range faults {
			oneLine(fault.String())
		}
		der, err := x509.MarshalPKCS8PrivateKey(signer)
		if err != nil {
			t.Fatalf("a key of type %T: %v", signer, err)
		}
		again, err := ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		if err != nil || !again.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(signer.Public()) {
			t.Errorf("the key is another one once it is written again: %v", err)
		}
	})
}

// FuzzIdentity looks for a URI of a certificate that is an agent's name although it is written otherwise than that agent's own.
func FuzzIdentity(f *testing.F) {
	for _, uri := range []string{
		"spiffe://pushrelay/agent/site-a", "spiffe://pushrelay/relay", "spiffe://pushrelay/agent/a%2db", "SPIFFE://p/agent/a", "spiffe://u@p/agent/a", "spiffe://p/agent/a?q", "spiffe://p/agent/../agent/a",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := url.Parse(uri)
		if err != nil {
			return
		}
		id, err := PeerIDFromCertificate(&x509.Certificate{URIs: []*url.URL{u}})
		if err != nil {
			if id != (PeerID{}) || strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 1<<10 {
				t.Errorf("%q: %v, %q", uri, id, err)
			}
			return
		}
		if CheckAgentName(id.Agent) != nil || CheckTrustDomain(id.TrustDomain) != nil || u.String() != id.String() {
			t.Errorf("%q is %+v, whose URI is %q", uri, id, id)
		}
		if _, err := PeerIDFromCertificate(&x509.Certificate{URIs: []*url.URL{u, u}}); err == nil {
			t.Errorf("%q twice is an identity", uri)
		}
	})
}

var beginOfList = regexp.MustCompile(`(?m)^-----BEGIN X509 CRL-----$`)

// FuzzRevocationLists looks for a file of lists that is read with a list less than it has, or otherwise once it is written by the book, or of which
// somebody who is on it is let in.
func FuzzRevocationLists(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	issuer := &x509.Certificate{RawSubject: []byte{48, 0}, SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign, PublicKey: key.Public()}
	list := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Unix(1e9, 0), NextUpdate: time.Unix(1e9+1, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Unix(1e9, 0)}, {SerialNumber: big.NewInt(1 << 40), RevocationTime: time.Unix(1e9, 0), ReasonCode: 1}},
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		f.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	f.Add(der)
	f.Add(text)
	f.Add(append(bytes.Clone(text), text...))
	f.Add(append([]byte("Certificate Revocation List (CRL):\n"), text[:len(text)-5]...))
	f.Add(append(append(bytes.Clone(text), "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"...), text...))
	f.Fuzz(func(t *testing.T, text []byte) {
		lists, _, err := parseRevocationLists(text)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 2<<10 {
				t.Errorf("the error is %q", err)
			}
			return
		}
		var written []byte
		read := &revocationLists{revoked: map[string]map[string]time.Time{}}
		for _, l := range lists {
			written = append(written, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw})...)
			read.add(l)
		}
		if begins := len(beginOfList.FindAll(text, -1)); len(lists) == 0 || text[0] == '-' && len(lists) < begins {
			t.Errorf("%d lists were read of %d", len(lists), begins)
		}
		again, _, err := parseRevocationLists(written)
		if err != nil || len(again) != len(lists) {
			t.Fatalf("%d lists are %d once they are written by the book: %v", len(lists), len(again), err)
		}
		for _, l := range lists {
			for _, entry := range l.RevokedCertificateEntries {
				if _, refused := read.refusesChain([]*x509.Certificate{{RawIssuer: l.RawIssuer, SerialNumber: entry.SerialNumber}}); !refused {
					t.Errorf("certificate %s is on the list and let in", entry.SerialNumber)
				}
			}
		}
	})
}
