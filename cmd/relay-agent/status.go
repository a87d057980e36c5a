package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/commandline"
)

const statusHelp = `Show how the agent is: its identities and their certificates, its relays, its spool, its targets with their last status and error, and the text files that are refused or hidden.

Example: relay-agent status

Exit codes: 0 connected to every relay; 4 not connected to all of them; 3 the agent cannot be reached; 1 what answers is no agent, or refuses; 2 wrong command line.`

// statusCommand shows how the agent is.
type statusCommand struct {
	*kingpin.CmdClause
	api  *apiFlags
	json *bool
}

func newStatusCommand(app *kingpin.Application) *statusCommand {
	c := &statusCommand{CmdClause: app.Command("status", statusHelp)}
	c.api = newAPIFlags(c.CmdClause)
	c.json = c.Flag("json", "Print what the agent answers, as it is.").Bool()
	return c
}

func (c *statusCommand) run(stdout, stderr io.Writer) int {
	client, err := c.api.client()
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent status: %v\n", err)
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience) // ended here; a signal ends the program
	defer cancel()
	st, raw, err := client.Status(ctx)
	if err != nil {
		return failed("status", err, stderr)
	}
	if *c.json {
		stdout.Write(raw) //nolint:errcheck // Nobody to tell.
	} else {
		writeStatus(stdout, st, time.Now())
	}
	for _, r := range st.Relays {
		if !r.Connected {
			return exitNotConnected
		}
	}
	return exitOK
}

// writeStatus writes the status for people.
func writeStatus(out io.Writer, st agentapi.Status, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush() //nolint:errcheck // Nobody to tell.
	fmt.Fprintf(w, "agent\t%s\tversion %s, up %s\n", commandline.Plain(st.Agent), commandline.Plain(st.Version), since(st.StartTime, now))
	for _, id := range st.Identities {
		fmt.Fprintf(w, "certificate\t%s\n", identityState(id, now))
	}
	for _, r := range st.Relays {
		fmt.Fprintf(w, "relay\t%s\t%s\n", commandline.Plain(r.Address), relayState(r, now))
		if r.TargetsDenied != "" {
			fmt.Fprintf(w, "\t\ttargets that it does not list: %s\n", commandline.Plain(r.TargetsDenied))
		}
		if r.Note != "" {
			fmt.Fprintf(w, "\t\t%s\n", commandline.Plain(r.Note))
		}
	}
	fmt.Fprintf(w, "spool\t%s\n", spoolState(&st.Spool))
	fmt.Fprintf(w, "targets\t%s\n", targetsState(&st))
	for _, f := range st.Textfiles {
		fmt.Fprintf(w, "text file\t%s: %s\n", commandline.Plain(f.Path), commandline.Plain(f.Reason))
	}
	if len(st.Targets) == 0 {
		return
	}
	w.Flush() //nolint:errcheck // As above. The table has columns of its own.
	fmt.Fprintln(w, "\nTARGET\tJOB\tINSTANCE\tLAST SCRAPE\tTOOK\tSTATUS\tLAST ERROR")
	for _, t := range st.Targets {
		last, took, status := "never", "-", "-"
		if t.LastScrape != nil {
			last, took = since(*t.LastScrape, now)+" ago", fmt.Sprintf("%.3fs", t.LastDurationSeconds)
		}
		if t.LastStatus != 0 {
			status = strconv.Itoa(t.LastStatus)
		}
		wrong := "-"
		if t.LastError != "" {
			wrong = commandline.Plain(t.LastError)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", commandline.Plain(t.Target), commandline.Plain(t.Job), commandline.Plain(t.Instance), last, took, status, wrong)
	}
}

// identityState says until when a certificate is good, and what is wrong with its renewal.
func identityState(id agentapi.Identity, now time.Time) string {
	state := "good until " + id.CertificateNotAfter.UTC().Format(time.RFC3339)
	switch {
	case now.After(id.CertificateNotAfter):
		state = "ENDED at " + id.CertificateNotAfter.UTC().Format(time.RFC3339)
	case id.LastError == "":
		state += ", renewed from " + id.RenewalDue.UTC().Format(time.RFC3339) + " on"
	}
	if id.LastError == "" {
		return state
	}
	what := "NOT RENEWED"
	if id.Revoked {
		what = "REVOKED, not renewed"
	}
	when := ""
	if id.LastAttempt != nil {
		when = ", tried " + since(*id.LastAttempt, now) + " ago"
	}
	return fmt.Sprintf("%s, %s%s: %s", state, what, when, commandline.Plain(id.LastError))
}

// targetsState counts the targets, and those whose last scrape was no success.
func targetsState(st *agentapi.Status) string {
	state, down := strconv.Itoa(len(st.Targets)), 0
	for _, t := range st.Targets {
		if t.LastError != "" {
			down++
		}
	}
	if down > 0 {
		state += fmt.Sprintf(", %d DOWN", down)
	}
	if st.TargetsMissing != "" {
		state += "; some may be missing: " + commandline.Plain(st.TargetsMissing)
	}
	return state
}

func relayState(r agentapi.Relay, now time.Time) string {
	pending := ", " + commandline.Count(r.Pending, "change") + " pending"
	if !r.Connected {
		reason := commandline.Plain(r.LastError)
		if reason == "" {
			reason = "the first session is not open yet"
		}
		state := "NOT CONNECTED"
		if r.Revoked {
			state = "REVOKED, not connected"
		}
		return fmt.Sprintf("%s for %s%s: %s", state, since(r.Since, now), pending, reason)
	}
	roundTrip := "not measured yet"
	if r.RoundTripSeconds > 0 {
		roundTrip = fmt.Sprintf("%.1f ms", r.RoundTripSeconds*1000)
	}
	return fmt.Sprintf("connected for %s%s, round trip %s, version %s", since(r.Since, now), pending, roundTrip, commandline.Plain(r.Version))
}

func spoolState(s *agentapi.Spool) string {
	state := fmt.Sprintf("%.1f MiB", float64(s.Bytes)/(1<<20))
	if s.MaxBytes > 0 {
		state += fmt.Sprintf(" of %.0f MiB", float64(s.MaxBytes)/(1<<20))
	}
	state += ", " + commandline.Count(s.Entries, "change") + " pending"
	if s.Entries > 0 {
		state += fmt.Sprintf(", the oldest for %s", time.Duration(s.OldestSeconds*float64(time.Second)).Round(time.Second))
	}
	if !s.Writable {
		state += ", NOT WRITABLE: " + commandline.Plain(s.Error)
	}
	return state
}

// since returns how long ago something was.
func since(at, now time.Time) string { return max(now.Sub(at).Round(time.Second), 0).String() }
