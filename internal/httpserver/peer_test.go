package httpserver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/httpserver"
)

// peers serves who asks, as fmt prints it.
func peers(t *testing.T, webConfigFile string) (address string) {
	t.Helper()
	f := flags("127.0.0.1:0")
	*f.WebConfigFile = webConfigFile
	var s *httpserver.Server
	ready := make(chan struct{})
	s, _ = serveFlags(t, f, func(w http.ResponseWriter, r *http.Request) {
		<-ready
		p := s.Peer(r)
		fmt.Fprintf(w, "%s %q", p.User, p.Certificate)
	})
	close(ready)
	return s.Addr().String()
}

func askAs(t *testing.T, transport *http.Transport, url, user, password string) string {
	t.Helper()
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

// TestUsersAreThoseOfTheFile: a name counts only with the password that the file has for it at that moment.
func TestUsersAreThoseOfTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("basic_auth_users: {prometheus: \"" + hashed + "\"}\n")
	address := "http://" + peers(t, file)
	ask := func(user, password string) string { return askAs(t, new(http.Transport), address, user, password) }
	for range 2 {
		if got := ask("prometheus", "right"); got != `200 prometheus []` {
			t.Errorf("with the right password: %s", got)
		}
	}
	if got := ask("prometheus", "wrong"); got != "401 Unauthorized\n" {
		t.Errorf("with a wrong one: %s", got)
	}
	set("# nobody needs a password\n")
	for _, password := range []string{"right", "wrong"} {
		if got := ask("prometheus", password); got != `200  []` {
			t.Errorf("with a name that nobody checks, and %s: %s", password, got)
		}
	}
	set("basic_auth_users: {second: \"" + hashed + "\"}\n")
	if got := ask("second", "right"); got != `200 second []` {
		t.Errorf("another user: %s", got)
	}
	if got := askAs(t, new(http.Transport), "http://"+peers(t, ""), "second", "right"); got != `200  []` {
		t.Errorf("without a file: %s", got)
	}
}

// TestCertificatesAreVerified: the names of a client certificate count only if its authority is the one of the file.
func TestCertificatesAreVerified(t *testing.T) {
	ca, caKey := issue(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true}, nil, nil)
	uri, err := url.Parse("spiffe://example.org/ops")
	if err != nil {
		t.Fatal(err)
	}
	client := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "name"}, DNSNames: []string{"a.example.org"}, EmailAddresses: []string{"x@example.org"}, URIs: []*url.URL{uri},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	good, goodKey := issue(t, client, ca, caKey)
	own, ownKey := issue(t, client, nil, nil)
	for clientAuth, want := range map[string][3]string{
		"VerifyClientCertIfGiven": {`200  []`, `200  ["spiffe://example.org/ops" "a.example.org" "x@example.org" "name"]`, ""},
		"RequestClientCert":       {`200  []`, `200  []`, `200  []`},
	} {
		file := webConfig(t, "  client_auth_type: "+clientAuth, "  client_ca_file: ca.crt")
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		address := "https://" + peers(t, file)
		for i, shown := range [][]tls.Certificate{nil, {{Certificate: [][]byte{good.Raw}, PrivateKey: goodKey}}, {{Certificate: [][]byte{own.Raw}, PrivateKey: ownKey}}} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(shown) == 0 {
					return new(tls.Certificate), nil
				}
				return &shown[0], nil
			}}}
			got := askAs(t, transport, address, "", "")
			if want[i] == "" {
				if len(got) > 3 && got[:3] == "200" {
					t.Errorf("%s lets a foreign certificate in: %s", clientAuth, got)
				}
				continue
			}
			if diff := cmp.Diff(want[i], got); diff != "" {
				t.Errorf("%s, certificate %d (-want +got):\n%s", clientAuth, i, diff)
			}
		}
	}
}

// issue returns a certificate of an authority, or of itself.
func issue(t *testing.T, template, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by, byKey = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
