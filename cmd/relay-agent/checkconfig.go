package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/commandline"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/targets"
	"pushrelay/internal/yamldoc"
)

const checkHelp = `Check a configuration file as the agent would read it, target files and TLS files included, and show what it makes of it; or the file of its --web.config.file. Starts nothing.

Example: relay-agent check-config /etc/relay-agent/agent.yml

Exit codes: 0 good, also with warnings; 1 the agent would refuse it, or one of its target files; 2 wrong command line.`

// checkCommand checks a configuration file.
type checkCommand struct {
	*kingpin.CmdClause
	file *string
}

func newCheckCommand(app *kingpin.Application) *checkCommand {
	c := &checkCommand{CmdClause: app.Command("check-config", checkHelp)}
	c.file = c.Arg("file", "File as for --config.file or --web.config.file; its sections say which.").Required().String()
	return c
}

func (c *checkCommand) run(stdout, stderr io.Writer) int {
	if text, err := os.ReadFile(*c.file); err == nil && httpserver.IsConfig(yamldoc.Keys(text)) {
		return c.checkWeb(stdout, stderr)
	}
	found, err := targets.Check(*c.file)
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent check-config: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(stdout, "%s: %s\n%s\n", commandline.Count(len(found.Jobs), "job"), strings.Join(found.Jobs, ", "), commandline.Count(len(found.Targets), "target"))
	for _, t := range found.Targets {
		fmt.Fprintf(stdout, "  %s  %s://%s%s  job=%s instance=%s", t.Name, t.Scheme, t.Address, t.MetricsPath, t.Job, t.Instance)
		for _, l := range t.Labels {
			fmt.Fprintf(stdout, " %s=%s", l.Name, l.Value)
		}
		fmt.Fprintln(stdout)
	}
	for _, d := range found.Textfiles {
		fmt.Fprintf(stdout, "text files in %s  job=%s", d.Path, d.Job)
		for _, name := range slices.Sorted(maps.Keys(d.Labels)) {
			fmt.Fprintf(stdout, " %s=%s", name, d.Labels[name])
		}
		fmt.Fprintln(stdout)
	}
	if found.PushRules > 0 {
		fmt.Fprintf(stdout, "%s\n", commandline.Count(found.PushRules, "push rule"))
	}
	for _, warning := range found.Warnings {
		fmt.Fprintf(stdout, "warning: %s\n", warning)
	}
	for _, file := range found.BadFiles {
		fmt.Fprintf(stderr, "relay-agent check-config: %s\n", file)
	}
	if len(found.BadFiles) > 0 {
		return exitFailed
	}
	fmt.Fprintf(stdout, "%s is good\n", *c.file)
	return exitOK
}

// checkWeb checks a web configuration file.
func (c *checkCommand) checkWeb(stdout, stderr io.Writer) int {
	found, err := httpserver.CheckConfig(*c.file)
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent check-config: web configuration %s: %v\n", *c.file, err)
		return exitFailed
	}
	for _, warning := range fileowner.Warnings(fileowner.Named{Name: "the file", Path: *c.file}) {
		fmt.Fprintf(stdout, "warning: %s\n", warning)
	}
	fmt.Fprintf(stdout, "%s: for --web.config.file: %s\n", *c.file, found)
	return exitOK
}
