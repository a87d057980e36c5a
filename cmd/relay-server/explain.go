package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
)

const (
	explainHelp = `Say whether somebody may do something, and by which rule of the policy file, without doing it: as the relay says that runs on --data.dir, or as a file says.

Exit codes: 0 allowed; 1 denied, or the question cannot be answered; 2 wrong command line; 3 the relay cannot be reached, or none runs and there is no --policy.file.`
	explainPushHelp = `May an agent or a user push to the group with these grouping labels?

Example: sudo relay-server explain push --agent=site-a job=backup instance=db1`
	explainDeleteHelp = `May an agent or a user delete the group with these grouping labels?

Example: sudo relay-server explain delete --user=ci job=backup`
	explainReadHelp = `May a user read the group with these grouping labels?

Example: sudo relay-server explain read --user=prometheus job=backup agent=site-a`
	explainScrapeHelp = `May a user scrape a target of an agent, and may the agent serve it? The target is named, or described by its labels.

Example: sudo relay-server explain scrape --user=prometheus site-a node-localhost:9100
Example: relay-server explain scrape --policy.file=policy.yml --user=prometheus site-a job=node`
	explainServeHelp = `May an agent serve targets of a job?

Example: sudo relay-server explain serve --agent=site-a node`
	explainStatusHelp = `May a user read what the relay tells of itself: its own metrics, its flags and its build?

Example: sudo relay-server explain status --user=prometheus`
	explainAdminHelp = `May a user end the relay, reload it, wipe it, forget agents and read its profiles, as far as the flags allow that?

Example: sudo relay-server explain admin --user=ops`
)

// explainCommands ask the policy.
type explainCommands struct {
	byName     map[string]string // the actions, by full name of the command
	policyFile string
	output     *string
	question   relayapi.Explain
	labels     []string // of a group; of a scrape one may be the name of the target
	job        string
}

func newExplainCommands(app *kingpin.Application) *explainCommands {
	explain := app.Command("explain", explainHelp)
	c := &explainCommands{byName: map[string]string{}}
	commandline.Text(explain.Flag("policy.file", "Ask this file instead of the relay that runs.").PlaceHolder("FILE"), &c.policyFile)
	c.output = outputFlag(explain)
	for _, one := range []struct{ action, help string }{
		{relayapi.ExplainPush, explainPushHelp},
		{relayapi.ExplainDelete, explainDeleteHelp},
		{relayapi.ExplainRead, explainReadHelp},
		{relayapi.ExplainScrape, explainScrapeHelp},
		{relayapi.ExplainServe, explainServeHelp},
		{relayapi.ExplainStatus, explainStatusHelp},
		{relayapi.ExplainAdmin, explainAdminHelp},
	} {
		command := explain.Command(one.action, one.help)
		c.byName[command.FullCommand()] = one.action
		c.define(command, one.action)
	}
	return c
}

// define defines who may be asked about, and what.
func (c *explainCommands) define(command *kingpin.CmdClause, action string) {
	switch action {
	case relayapi.ExplainPush, relayapi.ExplainDelete:
		commandline.Text(command.Flag("agent", "Agent that a push would come through.").PlaceHolder("NAME"), &c.question.Agent)
	case relayapi.ExplainServe:
		commandline.Text(command.Flag("agent", "Agent that would serve it.").PlaceHolder("NAME").Required(), &c.question.Agent)
		command.Arg("job", "Job of the targets.").Required().StringVar(&c.job)
		return
	}
	command.Flag("user", "User of --web.config.file; nobody is asked about without a name.").PlaceHolder("NAME").StringVar(&c.question.User)
	command.Flag("certificate", "Name in the user's client certificate (repeatable).").PlaceHolder("NAME").StringsVar(&c.question.Certificate)
	switch action {
	case relayapi.ExplainPush, relayapi.ExplainDelete, relayapi.ExplainRead:
		command.Arg("label", "Grouping labels, such as job=backup instance=db1.").Required().StringsVar(&c.labels)
	case relayapi.ExplainScrape:
		command.Arg("of", "Agent that has the target.").Required().StringVar(&c.question.Of)
		command.Arg("target", "Name of the target, or its labels, such as job=node instance=db1:9100.").Required().StringsVar(&c.labels)
	}
}

// has says whether the command is one of these.
func (c *explainCommands) has(command string) bool { return c.byName[command] != "" }

// run runs the command and returns its exit code.
func (c *explainCommands) run(command string, agents relay.Agents, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	if err := c.ask(c.byName[command]); err != nil {
		fmt.Fprintf(stderr, "relay-server %s: %v\n", command, err)
		return exitUsage
	}
	done, err := agents.Explain(ctx, c.policyFile, c.question)
	if err != nil {
		fmt.Fprintf(stderr, "relay-server %s: %v\n", command, err)
		return codeOf(err)
	}
	out := &output{stdout: stdout, stderr: stderr, asJSON: *c.output == "json", dataDir: agents.DataDir}
	out.tell(relay.FromRelay, done, func(w io.Writer) { fmt.Fprintln(w, commandline.Plain(done.Reason)) })
	if !done.Allowed {
		return exitRefused
	}
	return exitOK
}

// ask makes the question of what stands on the command line.
func (c *explainCommands) ask(action string) error {
	c.question.Action = action
	if c.question.Agent != "" && (c.question.User != "" || len(c.question.Certificate) > 0) {
		return errors.New("--agent is the name of an agent, --user and --certificate are names of a user: ask about one of them")
	}
	c.question.Labels = map[string]string{}
	if c.job != "" {
		c.question.Labels["job"] = c.job
	}
	if action == relayapi.ExplainScrape && len(c.labels) == 1 && !strings.Contains(c.labels[0], "=") {
		c.question.Target = c.labels[0]
		return nil
	}
	for _, label := range c.labels {
		name, value, ok := strings.Cut(label, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q is no label, want one such as job=backup", label)
		}
		c.question.Labels[name] = value
	}
	return nil
}
