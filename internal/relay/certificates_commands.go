package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

// AuthorityState is what there is to tell of the authority in a data dir.
type AuthorityState struct {
	// CAFile is the CA's certificate, Fingerprint its SHA-256.
	CAFile, Fingerprint string
	// Created says that it was made just now.
	Created bool
}

// InitAuthority makes the authority in a data dir, for certificates that are to be issued before the relay's first start. An
// authority that is there already stays.
func InitAuthority(dataDir string) (AuthorityState, error) {
	cfg := authorityConfig(dataDir)
	a, err := authority.OpenOrCreate(authorityDir(dataDir), cfg)
	if err != nil {
		return AuthorityState{}, err
	}
	if err := a.Mark(cfg.Marker); err != nil {
		return AuthorityState{}, err
	}
	return AuthorityState{CAFile: a.Files().CAFile, Fingerprint: a.Fingerprint(), Created: a.Created()}, nil
}

// issuingAuthority opens the authority that certificates are issued from. It makes none: that of a mistyped data dir would
// issue certificates that no relay accepts.
func issuingAuthority(dataDir string) (*authority.Authority, error) {
	a, err := authority.Open(authorityDir(dataDir))
	if errors.Is(err, authority.ErrNoAuthority) {
		return nil, fmt.Errorf("%w: is --data.dir %s that of the relay? A relay makes its authority at its first start, or before that: relay-server init --data.dir=DIR",
			err, dataDir)
	}
	return a, err
}

// Certificate is what was issued from a data dir.
type Certificate struct {
	// Files are the names of the files that were written.
	Files []string
	// NotAfter is when the certificate expires.
	NotAfter time.Time
}

// IssueAgentCertificate writes ca.crt, agent.crt and agent.key of one agent into out, from the authority of the data dir. It is in the ledger before
// it is there.
func IssueAgentCertificate(dataDir, name, out string) (Certificate, error) {
	a, err := issuingAuthority(dataDir)
	if err != nil {
		return Certificate{}, err
	}
	if err := authority.CheckOut(out); err != nil {
		return Certificate{}, err // before it is noted
	}
	issued, err := a.IssueAgent(name)
	if err != nil {
		return Certificate{}, err
	}
	certs, err := mtls.ParseCertificates(issued.CertPEM)
	if err != nil {
		return Certificate{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), notePatience) // of a command, which has no other
	defer cancel()
	noted, err := Agents{DataDir: dataDir}.note(ctx, issued.CertPEM, certs[0])
	if err != nil {
		return Certificate{}, fmt.Errorf("no certificate was issued: %w", err)
	}
	if noted.CA != "" {
		issued.CAPEM = []byte(noted.CA)
	}
	return write(out, "agent", issued)
}

// notePatience bounds the wait for the ledger.
const notePatience = 30 * time.Second

// IssueRelayCertificate writes ca.crt, relay.crt and relay.key of a second relay into out; names are those by which
// agents dial it. None stands for the names of the relay of this data dir, as two relays behind one balanced name have.
func IssueRelayCertificate(dataDir string, names []string, out string) (Certificate, error) {
	a, err := issuingAuthority(dataDir)
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
