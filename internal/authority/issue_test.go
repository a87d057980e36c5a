package authority_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

func TestIssueAgent(t *testing.T) {
	_, ca := newAuthority(t)
	issued, err := ca.IssueAgent("site-1")
	if err != nil {
		t.Fatal(err)
	}
	leaf := parsePair(t, issued).Leaf
	if id, err := mtls.PeerIDFromCertificate(leaf); err != nil || id != (mtls.PeerID{TrustDomain: "pushrelay", Agent: "site-1"}) {
		t.Errorf("identity = %v, %v", id, err)
	}
	if len(leaf.DNSNames) != 0 || len(leaf.IPAddresses) != 0 || leaf.IsCA {
		t.Errorf("names %q %v, CA %v, want an identity and nothing else", leaf.DNSNames, leaf.IPAddresses, leaf.IsCA)
	}
	checkLeaf(t, ca, issued, x509.ExtKeyUsageClientAuth)

	for _, name := range []string{"", "A", "a/b", "-a"} {
		if _, err := ca.IssueAgent(name); err == nil {
			t.Errorf("IssueAgent(%q) succeeded, want an error", name)
		}
	}
}

func TestIssueRelay(t *testing.T) {
	_, ca := newAuthority(t)
	issued, err := ca.IssueRelay([]string{"relay.example.org", "Relay.Example.ORG", "localhost", "127.0.0.1", "0:0::1", "*.example.org", "my_host"})
	if err != nil {
		t.Fatal(err)
	}
	leaf := parsePair(t, issued).Leaf
	want := []string{"*.example.org", "127.0.0.1", "::1", "localhost", "my_host", "relay.example.org"}
	if diff := cmp.Diff(want, authority.RelayNames(leaf)); diff != "" {
		t.Errorf("RelayNames() (-want +got):\n%s", diff)
	}
	if len(leaf.IPAddresses) != 2 {
		t.Errorf("addresses %v, want two as addresses", leaf.IPAddresses)
	}
	if diff := cmp.Diff([]string{"spiffe://pushrelay/relay"}, uriTexts(leaf)); diff != "" {
		t.Errorf("URIs (-want +got):\n%s", diff)
	}
	checkLeaf(t, ca, issued, x509.ExtKeyUsageServerAuth)
}

func TestIssueRelayRefusesNames(t *testing.T) {
	_, ca := newAuthority(t)
	for name, want := range map[string]string{
		"":                                 "cannot be a part",
		"relay:9443":                       "leave out scheme, port",
		"https://relay":                    "leave out scheme, port",
		"[::1]":                            "brackets",
		"fe80::1%eth0":                     "brackets",
		"a..b":                             "cannot be a part",
		"relay.":                           "cannot be a part",
		"ünicode":                          "cannot be a part",
		"a b":                              "cannot be a part",
		"a.*.b":                            "cannot be a part",
		strings.Repeat("x", 64):            "cannot be a part",
		strings.Repeat("x.", 127) + "long": "253",
	} {
		if _, err := ca.IssueRelay([]string{"localhost", name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("IssueRelay(%q) error = %v, want one with %q", name, err, want)
		}
		if _, err := ca.EnsureRelay([]string{name}); err == nil {
			t.Errorf("EnsureRelay(%q) succeeded, want an error", name)
		}
	}
	if _, err := ca.IssueRelay(nil); err == nil {
		t.Error("IssueRelay(nil) succeeded, want an error")
	}
}

// checkLeaf holds a leaf against T8 and against crypto/x509.
func checkLeaf(t *testing.T, ca *authority.Authority, issued authority.Issued, usage x509.ExtKeyUsage) {
	t.Helper()
	leaf := parsePair(t, issued).Leaf
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got < 366*24*time.Hour-time.Second || got > 366*24*time.Hour+time.Second {
		t.Errorf("lives %v, want a year and a day", got)
	}
	if back := time.Since(leaf.NotBefore); back < 24*time.Hour || back > 25*time.Hour {
		t.Errorf("began %v ago, want 24h", back)
	}
	if !issued.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("NotAfter = %v, want that of the certificate, %v", issued.NotAfter, leaf.NotAfter)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("key usage %b, %v key", leaf.KeyUsage, leaf.PublicKeyAlgorithm)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(issued.CAPEM) {
		t.Fatal("CAPEM has no certificate")
	}
	for _, u := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{u}})
		if (err == nil) != (u == usage) {
			t.Errorf("Verify() for usage %v = %v, want it good for %v only", u, err, usage)
		}
	}
	_, other := newAuthority(t)
	if leaf.CheckSignatureFrom(parse(t, other.CACertPEM())) == nil {
		t.Error("the certificate is good under another CA")
	}
	if leaf.CheckSignatureFrom(parse(t, ca.CACertPEM())) != nil {
		t.Error("the certificate is not signed by its CA")
	}
}

func TestIssueNearAndAfterTheEndOfTheCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ca := newAuthority(t)
		time.Sleep(time.Until(ca.NotAfter()) - 30*24*time.Hour)
		issued, err := ca.IssueAgent("a")
		if err != nil || !issued.NotAfter.Equal(ca.NotAfter()) {
			t.Errorf("a month before: NotAfter = %v, %v, want that of the CA, %v", issued.NotAfter, err, ca.NotAfter())
		}
		// The relay's own certificate cannot outlive the CA: it is not replaced again and again for that.
		if _, err := ca.EnsureRelay([]string{"localhost"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(29 * 24 * time.Hour)
		if ensured, err := ca.EnsureRelay([]string{"localhost"}); err != nil || ensured.Reissued != "" {
			t.Errorf("a day before: EnsureRelay() = %+v, %v, want it kept", ensured, err)
		}
		time.Sleep(48 * time.Hour)
		if _, err := ca.IssueAgent("a"); err == nil || !strings.Contains(err.Error(), "the CA is valid from") {
			t.Errorf("after the end: IssueAgent() error = %v, want one that names the CA's dates", err)
		}
	})
}

func TestEnsureRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, ca := newAuthority(t)
		_, foreign := newAuthority(t)
		names := []string{"relay.example.org", "127.0.0.1"}
		steps := []struct {
			name   string
			before func()
			names  []string
			want   string // in Reissued; empty: kept
		}{
			{name: "first", want: "there was none"},
			{name: "again"},
			{name: "other order and case", names: []string{"127.0.0.1", "RELAY.example.org", "127.0.0.1"}},
			{name: "another name", names: []string{"relay.example.org"}, want: "its names were"},
			{name: "names back", want: "its names were"},
			{name: "shortly before two thirds", before: func() { time.Sleep(242 * 24 * time.Hour) }},
			{name: "after two thirds", before: func() { time.Sleep(2 * 24 * time.Hour) }, want: "two thirds"},
			{name: "after the whole of it", before: func() { time.Sleep(400 * 24 * time.Hour) }, want: "two thirds"},
			{name: "key missing", before: func() { remove(t, dir, "relay.key") }, want: "missing"},
			{name: "certificate damaged", before: func() { writeFile(t, filepath.Join(dir, "relay.crt"), "") }, want: "no certificate"},
			{name: "of another CA", want: "another CA", before: func() {
				issued, err := foreign.IssueRelay(names)
				if err != nil {
					t.Fatal(err)
				}
				writeFile(t, filepath.Join(dir, "relay.crt"), string(issued.CertPEM))
				writeFile(t, filepath.Join(dir, "relay.key"), string(issued.KeyPEM))
			}},
			{name: "crash before the renames", before: func() {
				copyFile(t, filepath.Join(dir, "ca.key"), filepath.Join(dir, "relay.key"+authority.Unsettled))
			}},
			{name: "at the end"},
		}
		for _, step := range steps {
			if step.before != nil {
				step.before()
			}
			if step.names == nil {
				step.names = names
			}
			old, _ := os.ReadFile(filepath.Join(dir, "relay.crt"))
			ensured, err := ca.EnsureRelay(step.names)
			if err != nil {
				t.Fatalf("%s: EnsureRelay() error = %v", step.name, err)
			}
			if kept := string(old) == readFile(t, filepath.Join(dir, "relay.crt")); kept != (step.want == "") || !strings.Contains(ensured.Reissued, step.want) {
				t.Errorf("%s: kept %v, Reissued = %q, want %q", step.name, kept, ensured.Reissued, step.want)
			}
			m, err := mtls.Load(mtls.Relay, ensured.Files)
			if err != nil {
				t.Fatalf("%s: Load() error = %v", step.name, err)
			}
			if !ensured.NotAfter.Equal(m.NotAfter()) || !ensured.RenewAt.Before(ensured.NotAfter) || !ensured.RenewAt.After(time.Now()) {
				t.Errorf("%s: NotAfter %v, RenewAt %v, want that of the file and a time before it", step.name, ensured.NotAfter, ensured.RenewAt)
			}
		}
		if stat, err := os.Stat(filepath.Join(dir, "relay.key")); err != nil || stat.Mode().Perm() != 0o600 {
			t.Errorf("mode of relay.key = %v, %v, want 0600", stat.Mode(), err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*"+authority.Unsettled)); len(left) != 0 {
			t.Errorf("left over: %q", left)
		}
	})
}

// A crash between the two renames of a renewal: the old certificate with the new key. The change is finished.
func TestEnsureRelayAfterCrash(t *testing.T) {
	dir, ca := newAuthority(t)
	if _, err := ca.EnsureRelay([]string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	issued, err := ca.IssueRelay([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "relay.key"), string(issued.KeyPEM))
	writeFile(t, filepath.Join(dir, "relay.crt"+authority.Unsettled), string(issued.CertPEM))
	ensured, err := ca.EnsureRelay([]string{"localhost"})
	if err != nil || ensured.Reissued != "" {
		t.Errorf("EnsureRelay() = %+v, %v, want the change finished", ensured, err)
	}
	if readFile(t, filepath.Join(dir, "relay.crt")) != string(issued.CertPEM) {
		t.Error("relay.crt is not the one that waited")
	}
}

func TestWriteIssued(t *testing.T) {
	_, ca := newAuthority(t)
	issued, err := ca.IssueAgent("a")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out", "a")
	if err := authority.WriteIssued(dir, "agent", issued); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ca.crt": string(ca.CACertPEM()), "agent.crt": string(issued.CertPEM), "agent.key": string(issued.KeyPEM)}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for name, mode := range map[string]fs.FileMode{"": 0o700, "agent.key": 0o600} {
		if stat, err := os.Stat(filepath.Join(dir, name)); err != nil || stat.Mode().Perm() != mode {
			t.Errorf("mode of %q = %v, %v, want %v", name, stat.Mode(), err, mode)
		}
	}

	// A renewal: the CA stays, the old pair is moved away.
	remove(t, dir, "agent.crt", "agent.key")
	if err := authority.WriteIssued(dir, "agent", issued); err != nil {
		t.Errorf("WriteIssued() beside the same ca.crt: error = %v", err)
	}
}

func TestWriteIssuedOverwritesNothing(t *testing.T) {
	_, ca := newAuthority(t)
	issued, err := ca.IssueAgent("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "agent.crt", "agent.key"} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, name), "mine")
		err := authority.WriteIssued(dir, "agent", issued)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("WriteIssued() beside %s: error = %v, want one that names it", name, err)
		}
		if diff := cmp.Diff(map[string]string{name: "mine"}, listing(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	}
	for _, base := range []string{"", ".", "ca", "../agent", "a/b"} {
		if err := authority.WriteIssued(t.TempDir(), base, issued); err == nil {
			t.Errorf("WriteIssued() as %q succeeded, want an error", base)
		}
	}
}

// What is issued is what a handshake accepts, and nothing else is.
func TestIssuedCertificatesShakeHands(t *testing.T) {
	_, ca := newAuthority(t)
	_, other := newAuthority(t)
	relay := mtls.RelayTLSConfig(relayReloader(t, ca), nil)

	state, relayErr, agentErr := handshake(relay, mtls.AgentTLSConfig(agentReloader(t, ca, "site-1"), "localhost"))
	if relayErr != nil || agentErr != nil {
		t.Fatalf("handshake: relay %v, agent %v, want none", relayErr, agentErr)
	}
	if id, err := mtls.PeerIDFromState(state); err != nil || id.Agent != "site-1" || id.TrustDomain != ca.TrustDomain() {
		t.Errorf("PeerIDFromState() = %v, %v, want site-1", id, err)
	}
	_, relayErr, agentErr = handshake(relay, mtls.AgentTLSConfig(agentReloader(t, other, "site-1"), "localhost"))
	if _, ok := errors.AsType[*mtls.UntrustedRelayError](agentErr); !ok || relayErr == nil {
		t.Errorf("with another authority: relay %v, agent %v, want an *UntrustedRelayError", relayErr, agentErr)
	}
}

func relayReloader(t *testing.T, ca *authority.Authority) *mtls.Reloader {
	t.Helper()
	ensured, err := ca.EnsureRelay([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := mtls.NewReloader(mtls.Config{Role: mtls.Relay, Files: ensured.Files})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func agentReloader(t *testing.T, ca *authority.Authority, name string) *mtls.Reloader {
	t.Helper()
	issued, err := ca.IssueAgent(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := authority.WriteIssued(dir, "agent", issued); err != nil {
		t.Fatal(err)
	}
	r, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: mtls.Files{
		CertFile: filepath.Join(dir, "agent.crt"), KeyFile: filepath.Join(dir, "agent.key"), CAFile: filepath.Join(dir, "ca.crt"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// handshake connects the two over the loopback interface and returns what the relay saw.
func handshake(relay, agent *tls.Config) (state tls.ConnectionState, relayErr, agentErr error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return state, err, err
	}
	defer listener.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			relayErr = err
			return
		}
		defer conn.Close()
		tlsConn := tls.Server(conn, relay)
		if relayErr = tlsConn.Handshake(); relayErr == nil {
			state = tlsConn.ConnectionState()
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		listener.Close()
		<-done
		return state, relayErr, err
	}
	defer conn.Close()
	tlsConn := tls.Client(conn, agent)
	if agentErr = tlsConn.Handshake(); agentErr == nil {
		// The relay hangs up without a word; a refusal would be another error.
		if _, err := tlsConn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			agentErr = err
		}
	}
	conn.Close()
	<-done
	return state, relayErr, agentErr
}

// TestSignAgentAgain: a certificate that is issued once more says what the first one said, to the byte.
func TestSignAgentAgain(t *testing.T) {
	a, err := authority.Create(filepath.Join(t.TempDir(), "authority"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.SignAgent("site-a", key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.SignAgentAgain("site-a", key.Public(), authority.Former{Serial: mtls.Serial(first), NotBefore: first.NotBefore, NotAfter: first.NotAfter})
	if err != nil || !bytes.Equal(again.RawTBSCertificate, first.RawTBSCertificate) {
		t.Errorf("SignAgentAgain() = %v, %v, want %v", again, err, first)
	}
	if _, err := a.VerifyAgent(again); err != nil {
		t.Error(err)
	}
}
