package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/jobexec"
)

const execHelp = `Run a command and push how it went: when it ran and when it last succeeded, its duration, exit code, processor time and memory, as job_* metrics of the group of the job.

Two machines that push through one agent write one group unless their keys differ: --grouping=instance=$(hostname) on each.

When it is due again says --every or --schedule, and --grace how late it may be: then the relay's push_up of the group is 0 once it is late, as it is when the command failed.

Streams, signals and exit code of the command pass through, and a push that fails changes neither: it is one line on standard error. What the command writes to the file named in $RELAY_METRICS_FILE, in the text format, is pushed as well.

Example: relay-agent exec --job=backup --every=1d --grace=2h -- /usr/local/bin/backup /srv

Exit codes other than the command's own: 124 its time was over (--timeout), 125 wrong use of exec (nothing was run), 126 it cannot be started, 127 it was not found, 128+N signal N ended it.`

// execCommand runs a command and pushes how it went.
type execCommand struct {
	*kingpin.CmdClause
	group       *groupFlags
	api         *apiFlags
	life        *lifeFlags
	timeout     *time.Duration
	reportStart *bool
	args        *[]string
	toRun       []string // after --
}

func newExecCommand(app *kingpin.Application) *execCommand {
	c := &execCommand{CmdClause: app.Command("exec", execHelp)}
	c.group, c.api, c.life = newGroupFlags(c.CmdClause), newAPIFlags(c.CmdClause), newLifeFlags(c.CmdClause)
	c.timeout = c.Flag("timeout", "End the command after this time: SIGTERM, and SIGKILL 10s later. 0 for never.").Default("0s").Duration()
	c.reportStart = c.Flag("report-start", "Push before the command starts as well: job_running, which is 0 again at the end, and job_last_start_timestamp_seconds. The command waits 5s for that at most.").Bool()
	// Only for the usage: what follows -- never comes here, see cutCommand.
	c.args = c.Arg("command", "After --: the command to run and its arguments, as they are.").PlaceHolder("-- COMMAND").Strings()
	return c
}

// cutCommand cuts the command to run off the arguments of exec, so that nothing in it is taken for a flag. It also returns
// the exit code for a wrong command line: exec's own is one that the command to run hardly has.
func cutCommand(args []string) (own, toRun []string, usage int) {
	if len(args) == 0 || args[0] != "exec" {
		return args, nil, exitUsage
	}
	if i := slices.Index(args, "--"); i >= 0 {
		return args[:i], args[i+1:], exitExecUsage
	}
	return args, nil, exitExecUsage
}

func (c *execCommand) setCommand(toRun []string) error {
	if len(*c.args) > 0 {
		return fmt.Errorf("%q stands before --: the command to run begins after it", (*c.args)[0])
	}
	c.toRun = toRun
	return nil
}

func (c *execCommand) run(stderr io.Writer) int {
	report := func(line string) { fmt.Fprintf(stderr, "relay-agent exec: %s\n", line) }
	key, err := c.group.key()
	if err == nil && len(c.toRun) == 0 {
		err = errors.New("which command? Put it after --, as in: relay-agent exec --job=backup -- /usr/local/bin/backup --full")
	}
	if err == nil && *c.timeout < 0 {
		err = fmt.Errorf("--timeout is %s, want more than nothing, or 0 for never", *c.timeout)
	}
	if err != nil {
		report(err.Error())
		return exitExecUsage
	}
	life, err := c.life.declaration()
	var client *agentapi.Client
	if err == nil {
		client, err = c.api.client()
	}
	if err != nil {
		report(err.Error())
		return exitExecUsage
	}
	job := jobexec.Job{
		Args: c.toRun, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Timeout: *c.timeout, ReportStart: *c.reportStart,
		Push: func(ctx context.Context, p jobexec.Push) error {
			_, err := client.Merge(ctx, key, agentapi.Content{Exposition: p.Exposition, Life: life, Failed: p.Failed})
			return advised(err)
		},
		Report: report,
	}
	return job.Run()
}
