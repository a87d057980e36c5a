package relay

import (
	"fmt"
	"path/filepath"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

// authorityDir is where the relay's own certificate authority is in a data dir.
func authorityDir(dataDir string) string { return filepath.Join(dataDir, "authority") }

// certificateRenewal says what to do about the relay's certificate when it ends.
func (s *Server) certificateRenewal() string {
	if s.authority != nil {
		return "the relay renews it by itself, and could not: see the errors in this log; the authority directory of --data.dir must be writable"
	}
	return "issue another (relay-server relay-certificate --out DIR on the relay whose authority it is from, or with your own authority) and put it in place of the --grpc.tls files; no restart is needed"
}

// Certificate is what was issued from a data dir.
type Certificate struct {
	// Files are the names of the files that were written.
	Files []string
	// NotAfter is when the certificate expires.
	NotAfter time.Time
}

// IssueAgentCertificate writes ca.crt, agent.crt and agent.key of one agent into out. The authority is made if the data
// dir has none yet, so that certificates can be issued before the relay's first start.
func IssueAgentCertificate(dataDir, name, out string) (Certificate, error) {
	a, err := authority.OpenOrCreate(authorityDir(dataDir), authority.Config{})
	if err != nil {
		return Certificate{}, err
	}
	issued, err := a.IssueAgent(name)
	if err != nil {
		return Certificate{}, err
	}
	return write(out, "agent", issued)
}

// IssueRelayCertificate writes ca.crt, relay.crt and relay.key of a second relay into out; names are those by which
// agents dial it. None stands for the names of the relay of this data dir, as two relays behind one balanced name have.
func IssueRelayCertificate(dataDir string, names []string, out string) (Certificate, error) {
	a, err := authority.OpenOrCreate(authorityDir(dataDir), authority.Config{})
	if err != nil {
		return Certificate{}, err
	}
	if len(names) == 0 {
		own, err := mtls.Load(mtls.Relay, a.Files())
		if err != nil {
			return Certificate{}, fmt.Errorf("taking the names of this relay (--server-name gives others): %w", err)
		}
		names = authority.RelayNames(own.Leaf())
	}
	issued, err := a.IssueRelay(names)
	if err != nil {
		return Certificate{}, err
	}
	return write(out, "relay", issued)
}

func write(out, base string, issued authority.Issued) (Certificate, error) {
	if err := authority.WriteIssued(out, base, issued); err != nil {
		return Certificate{}, err
	}
	return Certificate{Files: []string{"ca.crt", base + ".crt", base + ".key"}, NotAfter: issued.NotAfter}, nil
}
