package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/relay"
)

const (
	initHelp = `Make the relay's certificate authority in the data dir, for certificates that are to be issued before the relay's first start. One that is there stays.

Example: sudo relay-server --data.dir=/var/lib/pushrelay init`
	agentCertificateHelp = `Issue the certificate of one agent: writes ca.crt, agent.crt and agent.key.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agent-certificate site-a --out="$HOME/site-a"`
	relayCertificateHelp = `Issue the certificate of a second relay of the same authority: writes ca.crt, relay.crt and relay.key.

Example: sudo relay-server --data.dir=/var/lib/pushrelay relay-certificate --server-name=relay-2.example.org --out="$HOME/relay-2"`
)

// commands are those about the relay's own authority: one makes it, the others issue certificates from it, also while the
// relay runs.
type commands struct {
	init, agent, relay *kingpin.CmdClause
	agentName          *string
	relayNames         *[]string
	out                *string
}

func certificateCommands(app *kingpin.Application) *commands {
	c := &commands{
		init:  app.Command("init", initHelp),
		agent: app.Command("agent-certificate", agentCertificateHelp),
		relay: app.Command("relay-certificate", relayCertificateHelp),
		out:   new(string),
	}
	c.agentName = c.agent.Arg("name", "Name of the agent: its identity, lower-case letters, digits, dots and dashes.").Required().String()
	c.relayNames = c.relay.Flag("server-name", "Name or address by which agents dial the second relay (repeatable; default: the names of this relay).").PlaceHolder("NAME").Strings()
	for _, command := range []*kingpin.CmdClause{c.agent, c.relay} {
		command.Flag("out", "Directory to write to, your own or root's; it is made if needed.").Required().PlaceHolder("DIR").StringVar(c.out)
	}
	return c
}

func (c *commands) run(command, dataDir string, stdout io.Writer) error {
	if dataDir == "" {
		return errors.New("--data.dir is empty: certificates are issued from the data dir of the relay")
	}
	if command == c.init.FullCommand() {
		return initAuthority(dataDir, stdout)
	}
	var issued relay.Certificate
	var err error
	if command == c.agent.FullCommand() {
		issued, err = relay.IssueAgentCertificate(dataDir, *c.agentName, *c.out)
	} else {
		issued, err = relay.IssueRelayCertificate(dataDir, *c.relayNames, *c.out)
	}
	if err != nil {
		return err
	}
	for _, file := range issued.Files {
		fmt.Fprintln(stdout, filepath.Join(*c.out, file))
	}
	fmt.Fprintf(stdout, "valid until %s\n", issued.NotAfter.UTC().Format(time.RFC3339))
	return nil
}

func initAuthority(dataDir string, stdout io.Writer) error {
	state, err := relay.InitAuthority(dataDir)
	if err != nil {
		return err
	}
	what := "was there already"
	if state.Created {
		what = "new"
	}
	fmt.Fprintf(stdout, "%s (%s)\nSHA-256 fingerprint %s\n", state.CAFile, what, state.Fingerprint)
	return nil
}
