package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

func request(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRequests(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	good := ecKey(t, elliptic.P256())
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &url.URL{Scheme: "spiffe", Host: "pushrelay", Path: "/relay"}
	forged := request(t, good, x509.CertificateRequest{})
	forged[len(forged)-1] ^= 1
	for name, tt := range map[string]struct {
		der  []byte
		want string // of the error, empty for none
	}{
		"P-256":               {der: request(t, good, x509.CertificateRequest{})},
		"P-521":               {der: request(t, ecKey(t, elliptic.P521()), x509.CertificateRequest{})},
		"Ed25519":             {der: request(t, edwards, x509.CertificateRequest{})},
		"RSA":                 {der: request(t, rsaKey(t, 2048), x509.CertificateRequest{})},
		"a subject":           {der: request(t, good, x509.CertificateRequest{Subject: pkix.Name{CommonName: "site-b"}})},
		"another identity":    {request(t, good, x509.CertificateRequest{URIs: []*url.URL{ca}}), "extensions"},
		"a host name":         {request(t, good, x509.CertificateRequest{DNSNames: []string{"relay"}}), "extensions"},
		"a CA":                {request(t, good, x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 255}}}}), "extensions"},
		"a weak curve":        {request(t, ecKey(t, elliptic.P224()), x509.CertificateRequest{}), "P-224"},
		"a weak RSA key":      {request(t, rsaKey(t, 1024), x509.CertificateRequest{}), "1024 bits"},
		"nothing":             {nil, "reading"},
		"trailing bytes":      {append(request(t, good, x509.CertificateRequest{}), 0), "reading"},
		"another's signature": {forged, "not signed by its key"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := authority.CheckRequest(tt.der)
			if (err == nil) != (tt.want == "") || err != nil && (key != nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("CheckRequest() = %v, %v, want %q", key, err, tt.want)
			}
		})
	}
}

// TestSignAgent: what is signed says what the authority says, is let in, and is known again after its end.
func TestSignAgent(t *testing.T) {
	_, a := newAuthority(t)
	key := ecKey(t, elliptic.P256())
	cert, err := a.SignAgent("site-a", key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(cert.NotAfter); left > time.Hour || left < time.Hour-time.Minute || !key.PublicKey.Equal(cert.PublicKey) || cert.IsCA {
		t.Errorf("the certificate has %v to go", left)
	}
	id, err := a.VerifyAgent(cert)
	if want := (mtls.PeerID{TrustDomain: a.TrustDomain(), Agent: "site-a"}); err != nil || id != want {
		t.Errorf("VerifyAgent() = %v, %v, want %v", id, err, want)
	}
	if _, other := newAuthority(t); isOf(other, cert) {
		t.Error("another authority takes it for its own")
	}
	relay, err := a.IssueRelay([]string{"relay"})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := mtls.ParseCertificates(relay.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := a.VerifyAgent(certs[0]); err == nil {
		t.Errorf("a relay's certificate is that of %v", id)
	}
	if _, err := a.VerifyAgent(a.CACert()); err == nil {
		t.Error("the CA is an agent")
	}
	if _, err := a.SignAgent("Site", key.Public(), time.Hour); err == nil {
		t.Error("an impossible name is signed")
	}
}

func isOf(a *authority.Authority, cert *x509.Certificate) bool {
	_, err := a.VerifyAgent(cert)
	return err == nil
}

// FuzzCheckRequest: whatever is signed is a key that is good enough, and was shown to be somebody's.
func FuzzCheckRequest(f *testing.F) {
	f.Add(request(f, ecKey(f, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{CommonName: "site-a"}}))
	f.Add(request(f, ecKey(f, elliptic.P256()), x509.CertificateRequest{DNSNames: []string{"relay"}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := authority.CheckRequest(der)
		if err != nil {
			return
		}
		parsed, err := x509.ParseCertificateRequest(der)
		if err != nil || parsed.CheckSignature() != nil || len(parsed.Extensions) > 0 || key == nil {
			t.Errorf("it takes %x", der)
		}
	})
}
