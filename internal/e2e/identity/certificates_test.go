//go:build linux

package identity_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/exporter"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/faultproxy"
)

// TestTunnelCertificateReplaced: a certificate that ends soon is told in time; new certificate files of an agent or of a
// relay end no session, and the next one uses them (T8).
func TestTunnelCertificateReplaced(t *testing.T) {
	t.Parallel()
	ca := certificate.New(t, "CA")
	ofRelay := ca.Sign(t, "relay", certificate.Lasting(certificate.RelayTemplate(), time.Hour))
	r := house.StartRelay(t, ofRelay.RelayFlags(ca)...)
	network := house.NewNetworkTo(t, r.GRPC, "certificates")
	via := *r
	via.GRPC = network.Addr()
	ofAgent := ca.Sign(t, "agent", certificate.Lasting(certificate.AgentTemplate(t, certificate.SiteA), time.Hour))
	a := house.StartAgentWith(t, &via, "site-a", "scrape_configs: []\n", ofAgent.AgentFlags(ca)...)
	session := r.Session(t, "site-a")
	if got, want := session.CertificateNotAfter, ofAgent.NotAfter(t); got == nil || !got.Equal(want) {
		t.Errorf("certificate_not_after = %v, want %v", got, want)
	}

	// Both end within 30 days and the last third of their lives, and both programs say so and what to do.
	for _, p := range []struct {
		log   *program.LogBuffer
		words []string
	}{
		{&a.Log, []string{"certificate ends soon", ofAgent.CertFile, "relay-server agent-certificate"}},
		{&r.Log, []string{"certificate ends soon", ofRelay.CertFile, "relay-server relay-certificate"}},
	} {
		client.Eventually(t, client.Patience, "a warning of the certificate's end", func() error { return program.Warned(p.log.String(), p.words) })
	}

	newOfAgent := ca.Sign(t, "new-agent", certificate.Lasting(certificate.AgentTemplate(t, certificate.SiteA), 2*time.Hour))
	newOfRelay := ca.Sign(t, "new-relay", certificate.Lasting(certificate.RelayTemplate(), 2*time.Hour))
	ofAgent.ReplaceBy(t, newOfAgent)
	ofRelay.ReplaceBy(t, newOfRelay)
	client.WantSeries(t, a.URL, "relay_agent_certificate_not_after_seconds", float64(newOfAgent.NotAfter(t).Unix()))
	client.WantSeries(t, r.URL, "relay_certificate_not_after_seconds", float64(newOfRelay.NotAfter(t).Unix()))
	client.Push(t, a.URL+"/metrics/job/j", "m 1\n")
	r.WantSameSession(t, session)

	network.Cut(faultproxy.Reset)
	r.WantBack(t, session)
	if got, want := r.Session(t, "site-a").CertificateNotAfter, newOfAgent.NotAfter(t); got == nil || !got.Equal(want) {
		t.Errorf("certificate_not_after of the next session = %v, want %v", got, want)
	}
	if got, want := shownBy(t, r.GRPC), newOfRelay.NotAfter(t); !got.Equal(want) {
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
	address := exporter.Serve(t, exporter.NewStaged())
	ca := certificate.New(t, "CA")
	r := house.StartRelay(t, ca.Sign(t, "relay", certificate.RelayTemplate()).RelayFlags(ca)...)
	short := ca.Sign(t, "short", certificate.Lasting(certificate.AgentTemplate(t, certificate.SiteA), 6*time.Second))
	a := house.StartAgentWith(t, r, "site-a", house.ConfigOf(address, exporter.StagedPaths...), short.AgentFlags(ca)...)
	url := r.TargetURL("site-a", "metrics", address)
	client.WantScraped(t, client.Patience, url, exporter.StagedBody)
	session := r.Session(t, "site-a")
	// A scrape that is under way ends with the session.
	s := client.BeginBody(t, r.TargetURL("site-a", "body", address), time.Minute)
	s.WantBroken(t, "certificate expired")
	if now, end := time.Now(), short.NotAfter(t); now.Before(end) {
		t.Errorf("the session ended %v before its certificate", end.Sub(now))
	}
	client.Eventually(t, 20*time.Second, "the relay counts it", func() error {
		value, _, err := client.ValueOf(r.URL, `relay_sessions_ended_total{reason="certificate_expired"}`)
		if err == nil && value != 1 {
			err = fmt.Errorf("%w: %v", house.ErrVitals, value)
		}
		return err
	})
	got, err := client.Scrape(url)
	client.WantReason(t, got, err, http.StatusServiceUnavailable, "agent_offline")
	// First the relay's reason, then the agent's own: it looks at its certificate before it dials.
	file := filepath.Base(short.CertFile)
	for _, words := range [][]string{{"relay ended the session", "certificate has expired"}, {file, "expired at", "replace it"}} {
		client.Eventually(t, 20*time.Second, "the agent says why", func() error { return program.Warned(a.Log.String(), words) })
	}
	if ready := client.MustGet(t, a.URL+"/-/ready"); !strings.Contains(ready, file) {
		t.Errorf("/-/ready does not name the certificate that is expired:\n%s", ready)
	}
	short.ReplaceBy(t, ca.Sign(t, "good", certificate.Lasting(certificate.AgentTemplate(t, certificate.SiteA), time.Hour)))
	r.WantBack(t, session)
	client.WantScraped(t, client.Patience, url, exporter.StagedBody)
}
