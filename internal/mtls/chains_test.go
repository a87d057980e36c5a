package mtls_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/mtls"
)

// TestIntermediateCAs: chains at either end, and what X.509 says of them.
func TestIntermediateCAs(t *testing.T) {
	root := newAuthority(t, "root")
	first := root.intermediate(t, "first", 2)
	second := first.intermediate(t, "second", 3)
	short := root.intermediate(t, "short", 4, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	belowShort := short.intermediate(t, "below short", 5)
	fenced := root.intermediate(t, "fenced", 6, func(c *x509.Certificate) {
		c.PermittedURIDomains, c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.org"}, []string{"relay.test"}, true
	})
	onlyServers := root.intermediate(t, "only servers", 7, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	noCA := root.intermediate(t, "no CA", 8, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	elsewhere := agentTemplate("a", uris("spiffe://elsewhere/agent/a"))
	for _, tt := range []struct {
		name         string
		relay, agent pair
		relayCA      []byte // what the relay takes agents of; root for nil
		agentCA      []byte // by which the agent verifies the relay; root for nil
		relayErr     string
		agentErr     string
	}{
		{name: "one at either end", relay: first.chain(first.sign(t, relayTemplate())), agent: first.chain(first.sign(t, agentTemplate("a")))},
		{name: "two at either end", relay: first.chain(second.chain(second.sign(t, relayTemplate()))), agent: first.chain(second.chain(second.sign(t, agentTemplate("a"))))},
		{name: "two in another order", relay: second.chain(first.chain(second.sign(t, relayTemplate()))), agent: second.chain(first.chain(second.sign(t, agentTemplate("a"))))},
		{name: "with the root", relay: root.chain(first.chain(first.sign(t, relayTemplate()))), agent: root.chain(first.chain(first.sign(t, agentTemplate("a"))))},
		{name: "the intermediate is all that is trusted", relay: first.chain(first.sign(t, relayTemplate())), agent: first.sign(t, agentTemplate("a")), relayCA: first.pem(), agentCA: first.pem()},
		{name: "another branch than the one that is trusted", relay: first.chain(first.sign(t, relayTemplate())), agent: short.chain(short.sign(t, agentTemplate("a"))), relayCA: first.pem(), agentCA: root.pem(), relayErr: "unknown authority"},
		{name: "an agent's intermediate is missing", relay: root.sign(t, relayTemplate()), agent: first.sign(t, agentTemplate("a")), relayErr: "unknown authority"},
		{name: "a relay's intermediate is missing", relay: first.sign(t, relayTemplate(uris())), agent: root.sign(t, agentTemplate("a")), agentErr: "not in the CA file"},
		{name: "a path as long as it may be", relay: root.sign(t, relayTemplate()), agent: short.chain(short.sign(t, agentTemplate("a")))},
		{name: "a path that is too long", relay: root.sign(t, relayTemplate()), agent: short.chain(belowShort.chain(belowShort.sign(t, agentTemplate("a")))), relayErr: "too many intermediates"},
		{name: "names that the CA may give", relay: fenced.chain(fenced.sign(t, relayTemplate(func(c *x509.Certificate) { c.IPAddresses = nil }))), agent: fenced.chain(fenced.sign(t, agentTemplate("a")))},
		{name: "an agent of another trust domain than the CA may name", relay: root.sign(t, relayTemplate(uris())), agent: fenced.chain(fenced.sign(t, elsewhere)), relayErr: "is not permitted"},
		{name: "a host that the CA may not name", relay: fenced.chain(fenced.sign(t, relayTemplate(uris(), func(c *x509.Certificate) { c.DNSNames = []string{"relay.test", "other.test"} }))), agent: root.sign(t, agentTemplate("a")), agentErr: "is not permitted"},
		{name: "a CA for servers alone", relay: root.sign(t, relayTemplate()), agent: onlyServers.chain(onlyServers.sign(t, agentTemplate("a"))), relayErr: "incompatible key usage"},
		{name: "what signed is no CA", relay: root.sign(t, relayTemplate()), agent: noCA.chain(noCA.sign(t, agentTemplate("a"))), relayErr: "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			orRoot := func(ca []byte) []byte {
				if ca == nil {
					return root.pem()
				}
				return ca
			}
			relay := newReloader(t, mtls.Relay, writeFiles(t, tt.relay, orRoot(tt.relayCA)))
			// That its own certificate is none of its CA file is for the relay to judge.
			agent := newReloader(t, mtls.Agent, writeFiles(t, tt.agent, orRoot(tt.agentCA)))
			out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, "relay.test"))
			if tt.relayErr == "" && tt.agentErr == "" && (out.relayErr != nil || out.agentErr != nil) {
				t.Fatalf("handshake: relay %v, agent %v, want none", out.relayErr, out.agentErr)
			}
			if tt.relayErr != "" && (out.relayErr == nil || !strings.Contains(out.relayErr.Error(), tt.relayErr)) {
				t.Errorf("relay: %v, want an error with %q", out.relayErr, tt.relayErr)
			}
			if tt.agentErr != "" && (out.agentErr == nil || !strings.Contains(out.agentErr.Error(), tt.agentErr)) {
				t.Errorf("agent: %v, want an error with %q", out.agentErr, tt.agentErr)
			}
		})
	}
}

// svid is an X.509-SVID as SPIRE issues them: who it is of says its one URI alone; no common name; for both ends of TLS; for an hour. mutations make
// it another one.
func svid(path string, mutations ...func(*x509.Certificate)) *x509.Certificate {
	uniqueID := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 45}, Value: "3b0e5e3a7d1a4f0c"}
	return mutate(&x509.Certificate{
		Subject:      pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}, ExtraNames: []pkix.AttributeTypeAndValue{uniqueID}},
		SerialNumber: agentTemplate("x").SerialNumber,
		NotBefore:    time.Now().Add(-10 * time.Second), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, append([]func(*x509.Certificate){uris("spiffe://example.org" + path)}, mutations...))
}

func dns(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = names, nil }
}

// TestSVIDs: what SPIRE issues for /agent/NAME and /relay is taken as it is, and nothing that it issues to others.
func TestSVIDs(t *testing.T) {
	ca := newAuthority(t, "", uris("spiffe://example.org"))
	intermediate := ca.intermediate(t, "", 2, uris("spiffe://example.org"))
	show := func(template *x509.Certificate) pair { return intermediate.chain(intermediate.sign(t, template)) }
	for _, tt := range []struct {
		name         string
		relay, agent *x509.Certificate
		relayErr     string
		agentErr     string
	}{
		{name: "as they should be", relay: svid("/relay", dns("relay.test")), agent: svid("/agent/site-a")},
		{name: "an agent with a name of DNS", relay: svid("/relay", dns("relay.test")), agent: svid("/agent/site-a", dns("site-a.example.org"))},
		{name: "a relay with a path of its own", relay: svid("/ns/monitoring/sa/relay", dns("relay.test")), agent: svid("/agent/site-a")},
		{name: "another workload as an agent", relay: svid("/relay", dns("relay.test")), agent: svid("/ns/default/sa/site-a"), relayErr: "has the path"},
		{name: "the agent of SPIRE itself", relay: svid("/relay", dns("relay.test")), agent: svid("/spire/agent/join_token/x"), relayErr: "has the path"},
		{name: "the relay as an agent", relay: svid("/relay", dns("relay.test")), agent: svid("/relay"), relayErr: "is a relay's"},
		{name: "a relay without a name of DNS", relay: svid("/relay"), agent: svid("/agent/site-a"), agentErr: "has other names"},
		{name: "an agent as the relay", relay: svid("/agent/site-b", dns("relay.test")), agent: svid("/agent/site-a"), agentErr: "its certificate is not a relay's"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relay := bareRelay(t, show(tt.relay))
			if tt.agentErr == "" {
				relay = mtls.RelayTLSConfig(newReloader(t, mtls.Relay, writeFiles(t, show(tt.relay), ca.pem())), nil)
			}
			agent := bareAgent(t, new(show(tt.agent)))
			if tt.relayErr == "" {
				agent = mtls.AgentTLSConfig(newReloader(t, mtls.Agent, writeFiles(t, show(tt.agent), ca.pem())), "relay.test")
			}
			out := handshake(relay, agent)
			if tt.relayErr == "" && tt.agentErr == "" {
				id, err := mtls.PeerIDFromState(out.relayState)
				if want := (mtls.PeerID{TrustDomain: "example.org", Agent: "site-a"}); out.relayErr != nil || out.agentErr != nil || err != nil || id != want {
					t.Fatalf("handshake: relay %v, agent %v, identity %v, %v, want %v", out.relayErr, out.agentErr, id, err, want)
				}
				return
			}
			if tt.relayErr != "" && (out.relayErr == nil || !strings.Contains(out.relayErr.Error(), tt.relayErr)) {
				t.Errorf("relay: %v, want an error with %q", out.relayErr, tt.relayErr)
			}
			if tt.agentErr != "" && (out.agentErr == nil || !strings.Contains(out.agentErr.Error(), tt.agentErr)) {
				t.Errorf("agent: %v, want an error with %q", out.agentErr, tt.agentErr)
			}
		})
	}
}

// TestSVIDsAreRotated: files of an hour are exchanged one after the other every half an hour, for a day, with a new CA in between, and there is
// neither a handshake that fails nor a warning.
func TestSVIDsAreRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, next := newAuthority(t, "one"), newAuthority(t, "two")
		bundle := ca.pem()
		issue := func(by *authority, template *x509.Certificate) pair {
			template.NotBefore, template.NotAfter = time.Now().Add(-10*time.Second), time.Now().Add(time.Hour)
			return by.sign(t, template)
		}
		relayFiles := writeFiles(t, issue(ca, svid("/relay", dns("relay.test"))), bundle)
		agentFiles := writeFiles(t, issue(ca, svid("/agent/site-a")), bundle)
		var log bytes.Buffer
		reloader := func(role mtls.Role, files mtls.Files) *mtls.Reloader {
			r, err := mtls.NewReloader(mtls.Config{Role: role, Files: files, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		relay, agent := reloader(mtls.Relay, relayFiles), reloader(mtls.Agent, agentFiles)
		shake := func() {
			t.Helper()
			if out := handshake(mtls.RelayTLSConfig(relay, nil), mtls.AgentTLSConfig(agent, "relay.test")); out.relayErr != nil || out.agentErr != nil {
				t.Fatalf("handshake: relay %v, agent %v", out.relayErr, out.agentErr)
			}
		}
		by := ca
		for round := range 48 {
			if round == 20 {
				bundle = slices.Concat(ca.pem(), next.pem())
			}
			if round == 30 {
				by = next
			}
			relayPair, agentPair := issue(by, svid("/relay", dns("relay.test"))), issue(by, svid("/agent/site-a"))
			for _, step := range []func(){
				func() { replaceFile(t, relayFiles.CAFile, bundle); replaceFile(t, agentFiles.CAFile, bundle) },
				func() {
					replaceFile(t, relayFiles.CertFile, relayPair.cert)
					replaceFile(t, agentFiles.CertFile, agentPair.cert)
				},
				func() {
					replaceFile(t, relayFiles.KeyFile, relayPair.key)
					replaceFile(t, agentFiles.KeyFile, agentPair.key)
				},
			} {
				step()
				time.Sleep(2 * time.Second)
				shake()
			}
			time.Sleep(30*time.Minute - 6*time.Second)
		}
		if strings.Contains(log.String(), "ends soon") || agent.Status().Reloads < 48 {
			t.Errorf("%d reloads\n%s", agent.Status().Reloads, &log)
		}
	})
}

// TestStepCertificates: what step-ca issues by default, for a day, with RSA or EC, a common name, and names of DNS beside the URI.
func TestStepCertificates(t *testing.T) {
	root := newAuthority(t, "Smallstep Root CA", func(c *x509.Certificate) { c.MaxPathLen = 1 })
	ca := root.intermediate(t, "Smallstep Intermediate CA", 2, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	both := usages(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	day := validity(-time.Minute, 24*time.Hour)
	agents := map[string]pair{
		"EC":                   ca.sign(t, agentTemplate("site-a", both, day)),
		"RSA":                  ca.signFor(t, rsaKey, agentTemplate("site-a", both, day, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment })),
		"names of DNS as well": ca.sign(t, agentTemplate("site-a", both, day, func(c *x509.Certificate) { c.DNSNames = []string{"site-a", "site-a.example.org"} })),
		"a common name of DNS": ca.sign(t, agentTemplate("site-a", both, day, func(c *x509.Certificate) { c.Subject.CommonName = "site-a.example.org" })),
		"an address as well":   ca.sign(t, agentTemplate("site-a", both, day, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org"} })),
		"the extension of step": ca.sign(t, agentTemplate("site-a", both, day, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 37476, 9000, 64, 1}, Value: []byte{48, 0}}}
		})),
	}
	relayPair := ca.chain(ca.sign(t, relayTemplate(both, day)))
	lists := newFile(t, listPEM(ca.list(t, nil, 99))) // its lists are of the intermediate CA
	files := writeFiles(t, relayPair, root.pem())
	if err := mtls.CheckRevocationLists(files, lists); err != nil {
		t.Error(err)
	}
	relay := mtls.RelayTLSConfig(newReloader(t, mtls.Relay, files), nil)
	for name, p := range agents {
		t.Run(name, func(t *testing.T) {
			agent := newReloader(t, mtls.Agent, writeFiles(t, ca.chain(p), root.pem()))
			if out := handshake(relay, mtls.AgentTLSConfig(agent, "relay.test")); out.relayErr != nil || out.agentErr != nil {
				t.Errorf("handshake: relay %v, agent %v, want none", out.relayErr, out.agentErr)
			}
		})
	}
}

// ownAuthority is an authority as a relay makes it for itself.
func ownAuthority(t *testing.T, domain string) *authority {
	t.Helper()
	return newAuthority(t, domain+" CA", uris("spiffe://"+domain))
}

// TestOwnCABesideAnother: each authority vouches for agents of its own trust domain.
func TestOwnCABesideAnother(t *testing.T) {
	other, own := newAuthority(t, "other CA"), ownAuthority(t, "pushrelay")
	agent := func(domain string) *x509.Certificate { return agentTemplate("a", uris("spiffe://"+domain+"/agent/a")) }
	for _, tt := range []struct {
		name  string
		relay *x509.Certificate
		agent pair
		want  string
	}{
		{"own", relayTemplate(), own.sign(t, agent("pushrelay")), ""},
		{"own, with a relay that names no trust domain", relayTemplate(uris()), own.sign(t, agent("pushrelay")), ""},
		{"other", relayTemplate(), other.sign(t, agent(trustDomain)), ""},
		{"other, with a relay that names no trust domain", relayTemplate(uris()), other.sign(t, agent("any.example")), ""},
		{"own for the other trust domain", relayTemplate(), own.sign(t, agent(trustDomain)), `the relay's own authority vouches for "pushrelay"`},
		{"other for the own trust domain", relayTemplate(), other.sign(t, agent("pushrelay")), `this relay is of "example.org"`},
		{"other for the own trust domain, with a relay that names none", relayTemplate(uris()), other.sign(t, agent("pushrelay")), "only the relay's own authority vouches"},
		{"two authorities of one trust domain", relayTemplate(uris("spiffe://pushrelay/relay")), other.sign(t, agent("pushrelay")), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := writeFiles(t, other.sign(t, tt.relay), other.pem())
			files.OwnCAFile = newFile(t, own.pem())
			r := newReloader(t, mtls.Relay, files)
			out := handshake(mtls.RelayTLSConfig(r, nil), bareAgent(t, &tt.agent))
			if tt.want == "" && out.relayErr != nil || tt.want != "" && (out.relayErr == nil || !strings.Contains(out.relayErr.Error(), tt.want)) {
				t.Errorf("relay: %v, want %q", out.relayErr, tt.want)
			}
			if got, want := r.Material().Verifiers(own.cert), [][]byte{other.cert.Raw, own.cert.Raw}; !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("Verifiers() = %x, want the one that agents are to verify the relay by, then its own", got)
			}
			if got, want := r.Material().Verifiers(other.cert), [][]byte{other.cert.Raw}; !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("Verifiers() of the one that is shown = %x, want it once", got)
			}
		})
	}
	t.Run("one that cannot verify the relay", func(t *testing.T) {
		files := writeFiles(t, newAuthority(t, "public CA").sign(t, relayTemplate(uris())), other.pem())
		files.OwnCAFile = newFile(t, own.pem())
		if _, err := mtls.Load(mtls.Relay, files); err == nil || !strings.Contains(err.Error(), "agents of the relay's own authority could not verify this relay") {
			t.Errorf("Load() = %v", err)
		}
	})
	t.Run("one that is no relay's", func(t *testing.T) {
		files := writeFiles(t, other.sign(t, relayTemplate()), other.pem())
		files.OwnCAFile = newFile(t, newAuthority(t, "third CA").pem())
		if _, err := mtls.Load(mtls.Relay, files); err == nil || !strings.Contains(err.Error(), "names no trust domain") {
			t.Errorf("Load() = %v", err)
		}
	})
}
