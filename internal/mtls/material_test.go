package mtls_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/mtls"
)

func TestLoad(t *testing.T) {
	ca, other := newAuthority(t, "our CA"), newAuthority(t, "other CA")
	agent, relay := ca.sign(t, agentTemplate("a")), ca.sign(t, relayTemplate())
	public := other.sign(t, relayTemplate(uris())) // such as a public CA gives

	tests := []struct {
		name string
		role mtls.Role
		pair pair
		ca   []byte
		err  string // empty: loads
	}{
		{name: "agent", role: mtls.Agent, pair: agent, ca: ca.pem()},
		{name: "relay", role: mtls.Relay, pair: relay, ca: ca.pem()},
		{name: "two CAs", role: mtls.Agent, pair: agent, ca: slices.Concat(other.pem(), ca.pem())},
		{name: "agent without extended key usage", role: mtls.Agent, pair: ca.sign(t, agentTemplate("a", usages())), ca: ca.pem()},
		{name: "relay of a public CA", role: mtls.Relay, pair: public, ca: ca.pem()},
		{
			name: "both usages", role: mtls.Relay, ca: ca.pem(),
			pair: ca.sign(t, relayTemplate(usages(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth))),
		},

		{name: "unknown role", pair: agent, ca: ca.pem(), err: "unknown role 0"},
		{name: "no certificate", role: mtls.Agent, pair: pair{cert: agent.key, key: agent.key}, ca: ca.pem(), err: `x.crt": no certificate in it`},
		{name: "broken certificate", role: mtls.Agent, pair: pair{cert: certPEM([]byte("x")), key: agent.key}, ca: ca.pem(), err: "parsing certificate 1"},
		{name: "no key", role: mtls.Agent, pair: pair{cert: agent.cert, key: agent.cert}, ca: ca.pem(), err: `x.key": no private key`},
		{
			name: "encrypted key", role: mtls.Agent, ca: ca.pem(), err: "encrypted",
			pair: pair{cert: agent.cert, key: []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")},
		},
		{name: "other key", role: mtls.Agent, pair: pair{cert: agent.cert, key: relay.key}, ca: ca.pem(), err: "do not belong together"},
		{name: "no CA certificate", role: mtls.Agent, pair: agent, ca: []byte("# none\n"), err: `CA file`},
		{name: "own certificate as CA", role: mtls.Agent, pair: agent, ca: agent.cert, err: "which is not a CA"},
		{name: "other CA", role: mtls.Agent, pair: agent, ca: other.pem()},
		{name: "relay of the other CA", role: mtls.Relay, pair: relay, ca: other.pem(), err: `its issuer is "CN=our CA"`},
		{name: "agent's for the relay", role: mtls.Relay, pair: agent, ca: ca.pem(), err: `is not for this relay: it is the certificate of agent "a"`},
		{name: "relay's for the agent", role: mtls.Agent, pair: relay, ca: ca.pem(), err: "is not for this agent"},
		{name: "relay without usage", role: mtls.Relay, pair: ca.sign(t, relayTemplate(usages())), ca: ca.pem(), err: "serverAuth"},
		{
			name: "agent with the usage of a relay", role: mtls.Agent, ca: ca.pem(), err: "clientAuth",
			pair: ca.sign(t, agentTemplate("a", usages(x509.ExtKeyUsageServerAuth))),
		},
		{name: "agent without identity", role: mtls.Agent, pair: ca.sign(t, agentTemplate("a", uris())), ca: ca.pem(), err: "0 URI SANs"},
		{
			name: "expired", role: mtls.Agent, ca: ca.pem(), err: "expired at",
			pair: ca.sign(t, agentTemplate("a", validity(-2*time.Hour, -time.Hour))),
		},
		{
			name: "not yet valid", role: mtls.Agent, ca: ca.pem(), err: "check the clock",
			pair: ca.sign(t, agentTemplate("a", validity(time.Hour, 2*time.Hour))),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := mtls.Load(tt.role, writeFiles(t, tt.pair, tt.ca))
			if tt.err == "" {
				if err != nil {
					t.Fatalf("Load() error = %v", err)
				}
				if m.Leaf() == nil || !m.NotAfter().Equal(m.Leaf().NotAfter) {
					t.Errorf("NotAfter() = %v, want that of the leaf", m.NotAfter())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("Load() error = %v, want one with %q", err, tt.err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("Load() error has more than one line: %q", err)
			}
		})
	}
}

func TestLoadNamesTheFileThatCannotBeRead(t *testing.T) {
	ca := newAuthority(t, "CA")
	good := writeFiles(t, ca.sign(t, agentTemplate("a")), ca.pem())
	missing := filepath.Join(t.TempDir(), "missing")
	for name, files := range map[string]mtls.Files{
		"certificate": {CertFile: missing, KeyFile: good.KeyFile, CAFile: good.CAFile},
		"key":         {CertFile: good.CertFile, KeyFile: missing, CAFile: good.CAFile},
		"CA":          {CertFile: good.CertFile, KeyFile: good.KeyFile, CAFile: missing},
	} {
		_, err := mtls.Load(mtls.Agent, files)
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), missing) {
			t.Errorf("Load() with a missing %s file = %v, want an error that names it", name, err)
		}
	}
	if _, err := mtls.Load(mtls.Agent, mtls.Files{CertFile: good.CertFile}); err == nil || !strings.Contains(err.Error(), "no key file is given") {
		t.Errorf("Load() without a key file = %v, want an error that says so", err)
	}
}

func TestLoadValidityErrorHasTheDates(t *testing.T) {
	ca := newAuthority(t, "CA")
	files := writeFiles(t, ca.sign(t, agentTemplate("a", validity(-2*time.Hour, -time.Hour))), ca.pem())
	_, err := mtls.Load(mtls.Agent, files)
	expired, ok := errors.AsType[*mtls.ValidityError](err)
	if !ok {
		t.Fatalf("Load() error = %v, want a *ValidityError", err)
	}
	for _, want := range []string{files.CertFile, expired.NotAfter.UTC().Format(time.RFC3339), "relay-server agent-certificate"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Load() error = %q, want %q in it", err, want)
		}
	}
}
