package mtls_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/mtls"
)

const trustDomain = "example.org"

// authority is a CA that signs anything, also what a real one must not.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// pair is a certificate and its key, in PEM.
type pair struct{ cert, key []byte }

// caTemplate is a good CA; mutations make it another one.
func caTemplate(name string, serial int64, mutations ...func(*x509.Certificate)) *x509.Certificate {
	return mutate(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		SerialNumber: big.NewInt(serial),
	}, mutations)
}

func newAuthority(tb testing.TB, name string, mutations ...func(*x509.Certificate)) *authority {
	tb.Helper()
	template, key := caTemplate(name, 1, mutations...), newKey(tb)
	return &authority{cert: create(tb, template, template, key, key), key: key}
}

// intermediate returns a CA below this one.
func (a *authority) intermediate(tb testing.TB, name string, serial int64, mutations ...func(*x509.Certificate)) *authority {
	tb.Helper()
	key := newKey(tb)
	return &authority{cert: create(tb, caTemplate(name, serial, mutations...), a.cert, key, a.key), key: key}
}

func create(tb testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// chain returns a pair that shows this authority after its leaf, as one of an intermediate CA has to.
func (a *authority) chain(p pair) pair {
	return pair{cert: append(bytes.Clone(p.cert), a.pem()...), key: p.key}
}

func (a *authority) pem() []byte { return certPEM(a.cert.Raw) }

func (a *authority) sign(tb testing.TB, template *x509.Certificate) pair {
	tb.Helper()
	return a.signFor(tb, newKey(tb), template)
}

func (a *authority) signFor(tb testing.TB, key crypto.Signer, template *x509.Certificate) pair {
	tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pair{cert: certPEM(der), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// agentTemplate is a good agent certificate; mutations make it a bad one.
func agentTemplate(name string, mutations ...func(*x509.Certificate)) *x509.Certificate {
	return mutate(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(2),
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{mtls.AgentURI(trustDomain, name)},
	}, mutations)
}

// relayTemplate is a good relay certificate for relay.test and 127.0.0.1.
func relayTemplate(mutations ...func(*x509.Certificate)) *x509.Certificate {
	return mutate(&x509.Certificate{
		Subject: pkix.Name{CommonName: "relay.test"}, SerialNumber: big.NewInt(3),
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"relay.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		URIs: []*url.URL{mtls.RelayURI(trustDomain)},
	}, mutations)
}

func mutate(template *x509.Certificate, mutations []func(*x509.Certificate)) *x509.Certificate {
	for _, f := range mutations {
		f(template)
	}
	return template
}

func usages(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = u }
}

func validity(from, to time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

func uris(texts ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// writeFiles puts the three files of one end into a directory of their own. Each is replaced by a rename, as a tool that
// renews certificates does.
func writeFiles(tb testing.TB, p pair, caPEM []byte) mtls.Files {
	tb.Helper()
	dir := tb.TempDir()
	files := mtls.Files{
		CertFile: filepath.Join(dir, "x.crt"), KeyFile: filepath.Join(dir, "x.key"), CAFile: filepath.Join(dir, "ca.crt"),
	}
	replaceFile(tb, files.CertFile, p.cert)
	replaceFile(tb, files.KeyFile, p.key)
	replaceFile(tb, files.CAFile, caPEM)
	return files
}

func replaceFile(tb testing.TB, path string, text []byte) {
	tb.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}

func newReloader(tb testing.TB, role mtls.Role, files mtls.Files) *mtls.Reloader {
	tb.Helper()
	r, err := mtls.NewReloader(mtls.Config{Role: role, Files: files})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// outcome is what both ends of one connection saw.
type outcome struct {
	relayErr, agentErr     error // of the handshake, or of the first byte after it
	relayState, agentState tls.ConnectionState
}

// handshake connects the two ends for one byte from relay to agent, so that a refusal that follows the agent's handshake
// is seen, too.
func handshake(relay, agent *tls.Config) outcome {
	var pumps sync.WaitGroup
	relayPipe, agentPipe := net.Pipe()
	relayWire, agentWire := newWire(relayPipe, &pumps), newWire(agentPipe, &pumps)
	relayConn, agentConn := tls.Server(relayWire, relay), tls.Client(agentWire, agent)

	var out outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer relayWire.Close()
		if out.relayErr = relayConn.Handshake(); out.relayErr != nil {
			return
		}
		out.relayState = relayConn.ConnectionState()
		if _, out.relayErr = relayConn.Write([]byte{1}); out.relayErr == nil {
			// Until the agent hangs up. An alert of the agent is an error of this read, as it would be for a relay.
			if _, err := relayConn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				out.relayErr = err
			}
		}
	}()
	if out.agentErr = agentConn.Handshake(); out.agentErr == nil {
		out.agentState = agentConn.ConnectionState()
		_, out.agentErr = agentConn.Read(make([]byte, 1))
		agentConn.Close()
	}
	agentWire.Close()
	<-done
	pumps.Wait()
	return out
}

// wire is one end of a pipe that takes writes without waiting for the other end, as a socket does: an end that sends an
// alert while the other one still writes would wait for ever on a bare pipe.
type wire struct {
	net.Conn
	queue  chan []byte
	closed sync.Once
}

func newWire(conn net.Conn, pumps *sync.WaitGroup) *wire {
	w := &wire{Conn: conn, queue: make(chan []byte, 64)}
	pumps.Go(func() {
		defer conn.Close()
		for b := range w.queue {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	})
	return w
}

func (w *wire) Write(b []byte) (int, error) {
	w.queue <- bytes.Clone(b)
	return len(b), nil
}

// Close hangs up after what was written has arrived.
func (w *wire) Close() error {
	w.closed.Do(func() { close(w.queue) })
	return nil
}
