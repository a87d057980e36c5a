//go:build linux

package e2e_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/faultproxy"
)

// lasting sets how long a certificate is valid from now.
func lasting(template *x509.Certificate, d time.Duration) *x509.Certificate {
	template.NotBefore, template.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(d)
	return template
}

// notAfter returns when the certificate expires, as it says.
func (l leaf) notAfter(t testing.TB) time.Time {
	t.Helper()
	cert, err := x509.ParseCertificate(l.tls.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert.NotAfter
}

// replaceBy puts the files of another certificate in the place of these.
func (l leaf) replaceBy(t testing.TB, other leaf) {
	t.Helper()
	for _, file := range []struct{ from, to string }{{other.keyFile, l.keyFile}, {other.certFile, l.certFile}} {
		if err := os.Rename(file.from, file.to); err != nil {
			t.Fatal(err)
		}
	}
}

const siteA = "spiffe://example.org/agent/site-a"

// TestTunnelCertificateReplaced: a certificate that ends soon is told in time; new certificate files of an agent or of a
// relay end no session, and the next one uses them (T8).
func TestTunnelCertificateReplaced(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "CA")
	ofRelay := ca.sign(t, "relay", lasting(relayTemplate(), time.Hour))
	r := startRelay(t, ofRelay.relayFlags(ca)...)
	network := newNetworkTo(t, r.grpc, "certificates")
	via := *r
	via.grpc = network.Addr()
	ofAgent := ca.sign(t, "agent", lasting(agentTemplate(t, siteA), time.Hour))
	a := startAgentWith(t, &via, "site-a", "scrape_configs: []\n", ofAgent.agentFlags(ca)...)
	session := r.session(t, "site-a")
	if got, want := session.CertificateNotAfter, ofAgent.notAfter(t); got == nil || !got.Equal(want) {
		t.Errorf("certificate_not_after = %v, want %v", got, want)
	}

	// Both end within 30 days and the last third of their lives, and both programs say so and what to do.
	for _, p := range []struct {
		log   *logBuffer
		words []string
	}{
		{&a.log, []string{"certificate ends soon", ofAgent.certFile, "relay-server agent-certificate"}},
		{&r.log, []string{"certificate ends soon", ofRelay.certFile, "relay-server relay-certificate"}},
	} {
		eventually(t, patience, "a warning of the certificate's end", func() error { return warned(p.log.String(), p.words) })
	}

	newOfAgent := ca.sign(t, "new-agent", lasting(agentTemplate(t, siteA), 2*time.Hour))
	newOfRelay := ca.sign(t, "new-relay", lasting(relayTemplate(), 2*time.Hour))
	ofAgent.replaceBy(t, newOfAgent)
	ofRelay.replaceBy(t, newOfRelay)
	wantSeries(t, a.url, "relay_agent_certificate_not_after_seconds", float64(newOfAgent.notAfter(t).Unix()))
	wantSeries(t, r.url, "relay_certificate_not_after_seconds", float64(newOfRelay.notAfter(t).Unix()))
	push(t, a.url+"/metrics/job/j", "m 1\n")
	r.wantSameSession(t, session)

	network.Cut(faultproxy.Reset)
	r.wantBack(t, session)
	if got, want := r.session(t, "site-a").CertificateNotAfter, newOfAgent.notAfter(t); got == nil || !got.Equal(want) {
		t.Errorf("certificate_not_after of the next session = %v, want %v", got, want)
	}
	if got, want := shownBy(t, r.grpc), newOfRelay.notAfter(t); !got.Equal(want) {
		t.Errorf("the relay shows a certificate that ends %v, want %v", got, want)
	}
}

// shownBy returns when the certificate ends that a relay shows to whoever connects.
func shownBy(t testing.TB, address string) time.Time {
	t.Helper()
	// Nothing is sent over this connection: the certificate is all there is to see.
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].NotAfter
}

// TestTunnelCertificateEnds: a session ends with the agent's certificate, both sides say why, and a new certificate brings
// the agent back without a restart.
func TestTunnelCertificateEnds(t *testing.T) {
	t.Parallel()
	address := serveHandler(t, newStagedTarget())
	ca := newAuthority(t, "CA")
	r := startRelay(t, ca.sign(t, "relay", relayTemplate()).relayFlags(ca)...)
	short := ca.sign(t, "short", lasting(agentTemplate(t, siteA), 6*time.Second))
	a := startAgentWith(t, r, "site-a", configOf(address, stagedPaths...), short.agentFlags(ca)...)
	url := r.targetURL("site-a", "metrics", address)
	wantScraped(t, patience, url, stagedBody)
	session := r.session(t, "site-a")
	// A scrape that is under way ends with the session.
	s := beginBody(t, r.targetURL("site-a", "body", address), time.Minute)
	s.wantBroken(t, "certificate expired")
	if now, end := time.Now(), short.notAfter(t); now.Before(end) {
		t.Errorf("the session ended %v before its certificate", end.Sub(now))
	}
	eventually(t, 20*time.Second, "the relay counts it", func() error {
		value, _, err := valueOf(r.url, `relay_sessions_ended_total{reason="certificate_expired"}`)
		if err == nil && value != 1 {
			err = fmt.Errorf("%w: %v", errVitals, value)
		}
		return err
	})
	got, err := scrape(url)
	wantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	// First the relay's reason, then the agent's own: it looks at its certificate before it dials.
	file := filepath.Base(short.certFile)
	for _, words := range [][]string{{"relay ended the session", "certificate has expired"}, {file, "expired at", "replace it"}} {
		eventually(t, 20*time.Second, "the agent says why", func() error { return warned(a.log.String(), words) })
	}
	if ready := mustGet(t, a.url+"/-/ready"); !strings.Contains(ready, file) {
		t.Errorf("/-/ready does not name the certificate that is expired:\n%s", ready)
	}
	short.replaceBy(t, ca.sign(t, "good", lasting(agentTemplate(t, siteA), time.Hour)))
	r.wantBack(t, session)
	wantScraped(t, patience, url, stagedBody)
}
