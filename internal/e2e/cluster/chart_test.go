//go:build linux

package cluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// writePeerCA makes an authority of members as the chart of the relay does.
func writePeerCA(t *testing.T) (dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay members"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: cert}, "tls.key": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// joinCommand is what runs in a pod before each start of its relay.
func (s *site) joinCommand(m *member, peerCA string) program.Command {
	args := []string{
		"cluster", "join", "--peer-ca-dir=" + peerCA, "--name=" + m.name, "--peer-address=" + m.peer, "--link-address=" + m.link, "--web-address=" + m.web,
		"--or-init-as=" + s.members[0].name, "--or-init-after=2s",
	}
	for _, other := range s.members {
		args = append(args, "--member="+other.link)
	}
	return m.asked(args...)
}

// startAll starts all relays at once as their pods do, and waits until they are full members.
func (s *site) startAll(t *testing.T, peerCA string) {
	t.Helper()
	joining := map[*member]*program.Process{}
	for _, m := range s.members {
		joining[m] = program.Start(t, s.joinCommand(m, peerCA))
	}
	client.Eventually(t, 2*time.Minute, "all are let in", func() error {
		for m, p := range joining {
			if p.Running() {
				continue
			}
			p.WantExit(t, 0)
			m.restart(t)
			delete(joining, m)
		}
		if len(joining) > 0 {
			return fmt.Errorf("%w: %d are not", client.ErrStatus, len(joining))
		}
		return nil
	})
	for _, m := range s.members {
		m.wantReady(t)
	}
	s.wantVoters(t)
}

// TestStartedAtOnce: three relays that are started as the chart does are one cluster, and stay it when all are stopped, by the same commands. Who has another
// authority is not let in, and begins no second one.
func TestStartedAtOnce(t *testing.T) {
	t.Parallel()
	peerCA := writePeerCA(t)
	s := &site{}
	for _, name := range []string{"a", "b", "c"} {
		s.members = append(s.members, newMember(t, name, "", ""))
	}
	s.startAll(t, peerCA)
	if code, answer := s.members[1].push(http.MethodPut, "/job/j", 7); code != http.StatusOK {
		t.Fatalf("push: %d %s", code, answer)
	}
	for _, m := range s.members {
		client.WantSeries(t, m.url, `done{instance="", job="j"}`, 7)
	}
	for _, m := range s.members {
		m.Signal(t, syscall.SIGTERM)
	}
	for _, m := range s.members {
		m.WantExit(t, 0)
	}
	s.startAll(t, peerCA)
	for _, m := range s.members {
		client.WantSeries(t, m.url, `done{instance="", job="j"}`, 7)
	}

	stranger := newMember(t, "d", "", "")
	other := &site{members: append([]*member{stranger}, s.members...)}
	if r := program.Output(t, other.joinCommand(stranger, writePeerCA(t))); r.Code != 1 || !strings.Contains(r.Stderr, "its authority has another fingerprint") {
		t.Errorf("one with another authority: exit code %d\n%s", r.Code, r.Stderr)
	}
	if r := program.Output(t, s.joinCommand(s.members[0], peerCA)); r.Code != 0 || !strings.Contains(r.Stdout, "a is a member of cluster ") {
		t.Errorf("one that runs: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// TestOneBecomesThreeAtOnce: what a relay alone holds is what the cluster begins with that its pod begins.
func TestOneBecomesThreeAtOnce(t *testing.T) {
	t.Parallel()
	peerCA := writePeerCA(t)
	s := &site{}
	for _, name := range []string{"a", "b", "c"} {
		s.members = append(s.members, newMember(t, name, "", ""))
	}
	first := s.members[0]
	first.start(t)
	if code, answer := first.push(http.MethodPut, "/job/j", 7); code != http.StatusOK {
		t.Fatalf("push: %d %s", code, answer)
	}
	if r := program.Output(t, s.joinCommand(first, peerCA)); r.Code != 1 || !strings.Contains(r.Stderr, "a relay runs on it: stop it first") {
		t.Errorf("while it runs: exit code %d\n%s", r.Code, r.Stderr)
	}
	first.Stop(t)
	s.startAll(t, peerCA)
	for _, m := range s.members {
		client.WantSeries(t, m.url, `done{instance="", job="j"}`, 7)
	}
}
