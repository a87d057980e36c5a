// Command certs makes the certificates of a relay and its agents for development and tests:
//
//	go run ./certs --out DIR --server-name NAME… --agent NAME…
//
// It writes ca.crt, ca.key, relay.crt, relay.key and, for every agent, NAME.crt and NAME.key. Run again on the same
// directory it keeps the CA and all certificates that are there, so that agents can be added. See README.md.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "certs:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	out         string
	serverNames []string
	// serverNamesGiven tells the default names from the same ones asked for: only what is asked for replaces a
	// certificate that is there.
	serverNamesGiven bool
	agents           []string
	trustDomain      string
}

func parseOptions(args []string) (options, error) {
	var o options
	app := kingpin.New("certs", "Makes the certificates of a relay and its agents for development and tests.")
	app.HelpFlag.Short('h')
	app.Flag("out", "Directory to write to, created if needed. A CA that is in it is used again.").Required().StringVar(&o.out)
	app.Flag("server-name", "Host name or IP address by which agents reach the relay; repeatable.").
		Default("localhost", "127.0.0.1").IsSetByUser(&o.serverNamesGiven).StringsVar(&o.serverNames)
	app.Flag("agent", "Name of an agent to issue a certificate for; repeatable.").StringsVar(&o.agents)
	app.Flag("trust-domain", "Trust domain of the identities in a new CA.").PlaceHolder(authority.DefaultTrustDomain).StringVar(&o.trustDomain)
	if _, err := app.Parse(args); err != nil {
		return options{}, fmt.Errorf("%w, try --help", err)
	}
	for _, name := range o.agents {
		if err := mtls.CheckAgentName(name); err != nil {
			return options{}, err
		}
		if name == "ca" || name == "relay" {
			return options{}, fmt.Errorf("agent name %q would overwrite %s.crt: choose another one", name, name)
		}
	}
	return o, nil
}

// run does all of it and writes one line per certificate to w.
func run(args []string, w io.Writer) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	if err := authority.CheckOut(o.out); err != nil {
		return err
	}
	ca, err := authority.OpenOrCreate(o.out, authority.Config{TrustDomain: o.trustDomain})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "ca.crt     trust domain %s, until %s\n", ca.TrustDomain(), ca.NotAfter().Format(time.DateOnly))
	if err := ensureRelay(ca, o, w); err != nil {
		return err
	}
	for _, name := range o.agents {
		if err := ensureAgent(ca, o.out, name, w); err != nil {
			return err
		}
	}
	return nil
}

// ensureRelay keeps the names of a relay certificate that is there, unless others are asked for: a second run that adds
// an agent must not take away the relay's names.
func ensureRelay(ca *authority.Authority, o options, w io.Writer) error {
	names := o.serverNames
	if text, err := os.ReadFile(ca.Files().CertFile); err == nil && !o.serverNamesGiven {
		if certs, err := mtls.ParseCertificates(text); err == nil {
			names = authority.RelayNames(certs[0])
		}
	}
	relay, err := ca.EnsureRelay(names)
	if err != nil {
		return err
	}
	what := "kept"
	if relay.Reissued != "" {
		what = "new, because " + relay.Reissued
	}
	fmt.Fprintf(w, "relay.crt  for %q, until %s (%s)\n", names, relay.NotAfter.Format(time.DateOnly), what)
	return nil
}

// ensureAgent keeps an agent's certificate that is there and good, and says what to do with one that is not.
func ensureAgent(ca *authority.Authority, dir, name string, w io.Writer) error {
	files := mtls.Files{
		CertFile: filepath.Join(dir, name+".crt"), KeyFile: filepath.Join(dir, name+".key"), CAFile: ca.Files().CAFile,
	}
	_, certErr := os.Lstat(files.CertFile)
	_, keyErr := os.Lstat(files.KeyFile)
	if errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
		issued, err := ca.IssueAgent(name)
		if err != nil {
			return err
		}
		if err := authority.WriteIssued(dir, name, issued); err != nil {
			return err
		}
		fmt.Fprintf(w, "%s.crt  for agent %q, until %s (new)\n", name, name, issued.NotAfter.Format(time.DateOnly))
		return nil
	}
	m, err := mtls.Load(mtls.Agent, files)
	if err == nil {
		err = ca.CheckIssued(m.Leaf())
	}
	if err != nil {
		return fmt.Errorf("agent %q has files that are no good any more, remove both of them for new ones: %w", name, err)
	}
	if id, err := mtls.PeerIDFromCertificate(m.Leaf()); err != nil || id.Agent != name {
		return fmt.Errorf("%q is the certificate of agent %q, not %q: remove it and its key for new ones", files.CertFile, id.Agent, name)
	}
	for _, warning := range m.Warnings() {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	fmt.Fprintf(w, "%s.crt  for agent %q, until %s (kept)\n", name, name, m.NotAfter().Format(time.DateOnly))
	return nil
}
