package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
)

// controlPatience is how long a command about agents may take, and deletePatience one that deletes groups as well.
const controlPatience = 30 * time.Second

const (
	agentsHelp = `Let agents in by join tokens, list them, throw them out and let them in again: those of the relay that runs on --data.dir, or what its files say. Whoever runs it has to be the relay's user, or root.

Exit codes: 0 done; 1 refused; 2 wrong command line; 3 the relay cannot be reached, or cannot do it now.`
	agentsListHelp = `List all agents: connected, revoked, away, or unseen if a certificate was issued and nobody came with it. One that was revoked and has a new certificate since, by a token, is not revoked: its earlier certificates are.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents list
Example: sudo relay-server --data.dir=/var/lib/pushrelay agents list --token=0123456789abcdef`
	agentsShowHelp = `Show one agent, and the certificates that were issued to it: when, by which token, renewal or command, and to which address.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents show site-a`
	agentsRevokeHelp = `Throw an agent out, now and until it is lifted: its sessions end, its certificates are refused, also those that nobody remembers, and nothing that it has in flight is applied. Its targets leave the list; what it pushed stays. Join tokens for it are void; a new one lets it in again.

Two relays that are no cluster share no revocation: revoke at each.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents revoke site-a`
	agentsAllowHelp = `Lift all revocations of an agent: each of its certificates that has not ended is let in again, also a stolen one. A running agent is back within 10 minutes, one that is started anew at once.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents allow site-a`
	agentsForgetHelp = `Take an agent that is away off the list, with its targets. Its groups stay, and so do its revocations. It is listed again when it comes back, and as unseen for as long as a certificate of it may be used or renewed.

Example: sudo relay-server --data.dir=/var/lib/pushrelay agents forget site-a`
)

// agentsCommands are about the agents of a relay.
type agentsCommands struct {
	list, show, revoke, allow, forget *kingpin.CmdClause
	name, output                      *string
	byToken                           string
	what                              relayapi.Revoke
	tokens                            *tokensCommands
}

func newAgentsCommands(app *kingpin.Application) *agentsCommands {
	agents := app.Command("agents", agentsHelp)
	c := &agentsCommands{
		list: agents.Command("list", agentsListHelp), show: agents.Command("show", agentsShowHelp), revoke: agents.Command("revoke", agentsRevokeHelp),
		allow: agents.Command("allow", agentsAllowHelp), forget: agents.Command("forget", agentsForgetHelp),
		name: new(string), tokens: newTokensCommands(agents),
	}
	c.output = outputFlag(agents)
	commandline.Text(c.list.Flag("token", "Only those that came in by the join token with this id, as agents tokens and agents show have it, until their first certificate can be renewed no more.").PlaceHolder("ID"), &c.byToken)
	for _, command := range []*kingpin.CmdClause{c.show, c.revoke, c.allow, c.forget} {
		command.Arg("name", "Name of the agent.").Required().StringVar(c.name)
	}
	commandline.Text(c.revoke.Flag("serial", "Revoke only the certificate with this serial number, in hexadecimal as openssl x509 -serial prints it.").PlaceHolder("HEX"), &c.what.Serial)
	c.revoke.Flag("keep-targets", "Leave its targets in the list, and down.").BoolVar(&c.what.KeepTargets)
	c.revoke.Flag("with-tokens", "Void the join tokens with a prefix that reach the name. Those for the very name are void anyway.").BoolVar(&c.what.WithTokens)
	c.revoke.Flag("delete-groups", "Delete what it pushed; needs the running relay.").BoolVar(&c.what.DeleteGroups)
	return c
}

// has says whether the command is one of these.
func (c *agentsCommands) has(command string) bool {
	for _, one := range []*kingpin.CmdClause{c.list, c.show, c.revoke, c.allow, c.forget, c.tokens.token, c.tokens.tokens} {
		if command == one.FullCommand() {
			return true
		}
	}
	return false
}

// run runs the command and returns its exit code.
func (c *agentsCommands) run(command string, agents relay.Agents, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	patience := controlPatience
	if c.what.DeleteGroups {
		patience = deletePatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out := &output{stdout: stdout, stderr: stderr, asJSON: *c.output == "json", dataDir: agents.DataDir}
	var err error
	switch command {
	case c.list.FullCommand():
		err = c.runList(ctx, agents, out)
	case c.show.FullCommand():
		err = c.runShow(ctx, agents, out)
	case c.revoke.FullCommand():
		err = c.runRevoke(ctx, agents, out)
	case c.allow.FullCommand():
		err = c.runAllow(ctx, agents, out)
	case c.tokens.token.FullCommand():
		err = c.tokens.runToken(ctx, agents, out)
	case c.tokens.tokens.FullCommand():
		err = c.tokens.runTokens(ctx, agents, out)
	default:
		if err = agents.Forget(ctx, *c.name); err == nil {
			out.tell(relay.FromRelay, relayapi.Nothing{}, func(w io.Writer) { fmt.Fprintf(w, "%s is forgotten\n", *c.name) })
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "relay-server %s: %v\n", command, err)
		return codeOf(err)
	}
	return exitOK
}

func (c *agentsCommands) runList(ctx context.Context, agents relay.Agents, out *output) error {
	list := agents.List
	if c.byToken != "" {
		list = func(ctx context.Context) ([]relayapi.Agent, relay.Source, error) {
			return agents.ListBy(ctx, c.byToken)
		}
	}
	all, source, err := list(ctx)
	if err != nil {
		return err
	}
	out.tell(source, all, func(w io.Writer) {
		if len(all) == 0 && c.byToken != "" {
			fmt.Fprintf(w, "no agent came in by token %s, as far as the ledger has certificates\n", commandline.Plain(c.byToken))
			return
		}
		if len(all) == 0 {
			fmt.Fprintln(w, "no agent is known")
			return
		}
		writeTable(w, "AGENT\tSTATE\tLAST SEEN\tVERSION\tADDRESS\tCERTIFICATE ENDS\tTARGETS\tGROUPS", func(table io.Writer) {
			for _, a := range all {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", commandline.Plain(a.Agent), stateText(a), timeText(a.LastSeen), orDash(a.Version),
					orDash(a.RemoteAddress), timeText(a.CertificateNotAfter), a.Targets, countText(a.Groups))
			}
		})
	})
	return nil
}

func (c *agentsCommands) runShow(ctx context.Context, agents relay.Agents, out *output) error {
	a, source, err := agents.Show(ctx, *c.name)
	if err != nil {
		return err
	}
	out.tell(source, a, func(w io.Writer) { writeAgent(w, a) })
	return nil
}

func writeAgent(w io.Writer, a relayapi.Agent) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	defer table.Flush() //nolint:errcheck // Nobody to tell.
	for _, line := range [][2]string{
		{"agent", commandline.Plain(a.Agent)},
		{"state", stateText(a)},
		{"session", timeText(a.SessionStarted)},
		{"last seen", timeText(a.LastSeen)},
		{"version", orDash(a.Version)},
		{"address", orDash(a.RemoteAddress)},
		{"certificate", orDash(a.CertificateSerial)},
		{"certificate ends", timeText(a.CertificateNotAfter)},
		{"targets", strconv.Itoa(a.Targets)},
		{"groups", countText(a.Groups)},
		{"series", countText(a.Series)},
	} {
		fmt.Fprintf(table, "%s\t%s\n", line[0], line[1])
	}
	if a.Revoked != nil {
		since := ""
		if a.State != relayapi.AgentRevoked {
			since = ", without the certificates that it got since"
		}
		fmt.Fprintf(table, "revoked\t%s%s\n", timeText(&a.Revoked.At), since)
	}
	for _, r := range a.RevokedCertificates {
		fmt.Fprintf(table, "revoked certificate\t%s, %s\n", commandline.Plain(r.Serial), timeText(&r.At))
	}
	for _, issued := range a.Certificates {
		fmt.Fprintf(table, "issued\t%s\n", commandline.Plain(issuedText(issued)))
	}
}

// issuedText says how and to whom a certificate was issued.
func issuedText(c relayapi.Certificate) string {
	text := timeText(&c.IssuedAt) + " by " + c.By
	switch {
	case c.Token != "":
		text += " " + c.Token
	case c.Parent != "":
		text += " of " + c.Parent
	}
	if c.Address != "" {
		text += " to " + c.Address
	}
	text += ", ends " + timeText(&c.To) + ": " + c.Serial
	if c.Revoked {
		text += ", revoked"
	}
	return text
}

func (c *agentsCommands) runRevoke(ctx context.Context, agents relay.Agents, out *output) error {
	done, source, err := agents.Revoke(ctx, *c.name, c.what)
	if err != nil {
		return err
	}
	out.tell(source, done, func(w io.Writer) { writeRevoked(w, source, done) })
	return nil
}

func writeRevoked(w io.Writer, source relay.Source, done relayapi.Revoked) {
	what := commandline.Plain(done.What())
	if source == relay.FromFiles {
		fmt.Fprintf(w, "%s is revoked: the relay refuses it as soon as it runs\n", what)
	} else {
		fmt.Fprintf(w, "%s is revoked: %s ended, %s left the list\n", what, commandline.Count(done.SessionsEnded, "session"), commandline.Count(done.TargetsRemoved, "target"))
	}
	switch {
	case done.GroupsDeleted > 0:
		fmt.Fprintf(w, "groups of it that were deleted: %d\n", done.GroupsDeleted)
	case done.Groups != nil && *done.Groups > 0:
		fmt.Fprintf(w, "groups of it that stay: %d; the same with --delete-groups deletes them\n", *done.Groups)
	}
	for _, serial := range done.Renewed {
		fmt.Fprintf(w, "so is certificate %s, which was renewed from it\n", commandline.Plain(serial))
	}
	for _, t := range done.TokensVoided {
		fmt.Fprintf(w, "token %s for %s lets nobody in any more\n", commandline.Plain(t.ID), nameOfToken(t))
	}
	for _, t := range done.TokensLeft {
		fmt.Fprintf(w, "token %s for %s is good for others still: agents tokens --void=%s voids it\n", commandline.Plain(t.ID), nameOfToken(t), commandline.Plain(t.ID))
	}
	if !done.Known {
		fmt.Fprintln(w, "neither the relay nor the ledger knew it: is that what you meant?")
	}
	fmt.Fprintln(w, "a second relay that is no cluster with this one does not know of it: revoke there, too")
}

func (c *agentsCommands) runAllow(ctx context.Context, agents relay.Agents, out *output) error {
	done, source, err := agents.Allow(ctx, *c.name)
	if err != nil {
		return err
	}
	out.tell(source, done, func(w io.Writer) {
		fmt.Fprintf(w, "%s is let in again, with each of its certificates that has not ended; revocations that were lifted: %d\n", done.Agent, len(done.Lifted))
		fmt.Fprintln(w, "it asks again within 10 minutes, and at once if it is started anew")
	})
	return nil
}

// stateText is the state, and what else there is to say of it.
func stateText(a relayapi.Agent) string {
	if a.Revoked != nil && a.State != relayapi.AgentRevoked {
		return a.State + ", earlier certificates revoked"
	}
	if n := len(a.RevokedCertificates); n > 0 {
		return a.State + ", " + commandline.Count(n, "certificate") + " revoked"
	}
	return a.State
}

func timeText(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func countText(n *int) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(*n)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return commandline.Plain(text)
}
