// Command relay-agent runs inside an isolated network: it dials relays, passes on what local jobs push, and scrapes the
// targets of its configuration when a relay asks. Its flags are listed by --help; docs/reference explains them.
//
// Beside the agent itself it has commands for people and scripts, which speak to a running agent: exec, push, delete and
// status; and enroll, check-config, repair and acknowledge-loss, which need none.
//
// The agent logs to standard error, ends with exit code 0 on SIGTERM and SIGINT, and reloads its configuration file on SIGHUP.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"pushrelay/internal/agent"
	"pushrelay/internal/commandline"
	"pushrelay/internal/pushflags"
)

// Exit codes of the commands; exec has more, see its help.
const (
	exitOK           = 0
	exitFailed       = 1 // refused, or not possible: the same again will not help
	exitUsage        = 2 // of the command line
	exitLater        = 3 // the agent cannot be reached, or has no way to take it now
	exitNotConnected = 4 // status: not connected to every relay
	exitExecUsage    = 125
)

const runHelp = `Run the agent; what happens without a command.

Example: relay-agent --data.dir=/var/lib/relay-agent --config.file=/etc/relay-agent/agent.yml`

// flagChoices are what flags can have, for completion.
var flagChoices = map[string][]string{"log.level": promslog.LevelFlagOptions, "log.format": promslog.FormatFlagOptions}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, standardError()))
}

func run(args []string, stdout, stderr io.Writer) int {
	asked := args
	args, toRun, usage := cutCommand(args)
	app := kingpin.New("relay-agent", "Dials out of an isolated network to relays: local jobs push to it, and relays scrape targets through it.")
	app.Version(version.Print("relay-agent"))
	app.HelpFlag.Short('h')
	commandline.SetUsage(app)
	app.UsageWriter(stdout)
	exited := false
	status := 0
	app.Terminate(func(code int) { exited, status = true, code })
	serve := app.Command("run", runHelp).Default()
	opts := flags(serve)
	logging := logFlags(serve, stderr)
	enrolls := newEnrollCommand(app)
	runs := newExecCommand(app)
	pushes := newPushCommands(app)
	shows := newStatusCommand(app)
	checks := newCheckCommand(app)
	repairs := newRepairCommands(app)

	shells := commandline.Shells{App: app.Model(), Values: flagChoices}
	if shells.Answer(asked, version.Version, stdout) {
		return exitOK
	}
	command, err := app.Parse(args)
	if exited {
		return status
	}
	if err != nil {
		err = commandline.Advise(app.Model(), args, err)
	}
	if err == nil && toRun != nil {
		err = runs.setCommand(toRun)
	}
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent: %v (--help lists all flags)\n", err)
		return usage
	}
	switch command {
	case enrolls.FullCommand():
		return enrolls.run(os.Stdin, stdout, stderr)
	case runs.FullCommand():
		return runs.run(stderr)
	case pushes.push.FullCommand(), pushes.delete.FullCommand():
		return pushes.run(command, os.Stdin, stdout, stderr)
	case shows.FullCommand():
		return shows.run(stdout, stderr)
	case checks.FullCommand():
		return checks.run(stdout, stderr)
	case repairs.repair.FullCommand(), repairs.acknowledge.FullCommand():
		return repairs.run(command, stdout, stderr)
	}
	o := opts()
	o.Logger = promslog.New(logging)
	err = supervised(func(ctx context.Context, reloads <-chan os.Signal) error { return runAgent(ctx, reloads, o) })
	if err != nil {
		fmt.Fprintf(stderr, "relay-agent: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// logFlags defines the flags of logging as promslog names them, for the command that logs.
func logFlags(serve *kingpin.CmdClause, stderr io.Writer) *promslog.Config {
	c := &promslog.Config{Writer: stderr, Level: promslog.NewLevel(), Format: promslog.NewFormat()}
	serve.Flag(promslogflag.LevelFlagName, promslogflag.LevelFlagHelp).Default("info").HintOptions(promslog.LevelFlagOptions...).SetValue(c.Level)
	serve.Flag(promslogflag.FormatFlagName, promslogflag.FormatFlagHelp).Default("logfmt").HintOptions(promslog.FormatFlagOptions...).SetValue(c.Format)
	return c
}

// flags defines the flags of the agent, with the defaults of its options. The function that it returns reads them once they are parsed.
func flags(serve *kingpin.CmdClause) func() agent.Options {
	o := agent.DefaultOptions()
	serve.Flag("relay.address", "Relay to dial, host:port (repeatable: the agent attaches to all of them). Needed with the --tls flags; without them the agent knows its relays from relay-agent enroll.").PlaceHolder("HOST:PORT").StringsVar(&o.RelayAddresses)
	serve.Flag("relay.proxy-url", "HTTP proxy on the way to the relays, http://[user:password@]host:port (default: HTTPS_PROXY and NO_PROXY of the environment).").PlaceHolder("URL").StringVar(&o.RelayProxyURL)
	serve.Flag("tls.ca-file", "Certificate authority of the relay (ca.crt). The three --tls files take the place of what relay-agent enroll made, and the agent does not renew them.").PlaceHolder("FILE").StringVar(&o.TLS.CAFile)
	serve.Flag("tls.cert-file", "Certificate of this agent (agent.crt); it holds the agent's identity.").PlaceHolder("FILE").StringVar(&o.TLS.CertFile)
	serve.Flag("tls.key-file", "Key of the certificate (agent.key).").PlaceHolder("FILE").StringVar(&o.TLS.KeyFile)
	serve.Flag("enroll.token-file", "File with a join token, with which an agent that has no identity yet enrols at its first start (default: the token in $"+tokenVariable+").").PlaceHolder("FILE").StringVar(&o.EnrollTokenFile)
	serve.Flag("enroll.name", "Name of the agent, for a join token that leaves it open (default: $RELAY_ENROLL_NAME, or the name of this host).").Envar("RELAY_ENROLL_NAME").PlaceHolder("NAME").StringVar(&o.EnrollName)
	serve.Flag("config.file", "Targets that relays may scrape through this agent; none without it.").PlaceHolder("FILE").StringVar(&o.ConfigFile)
	asked := false
	dataDir := serve.Flag("data.dir", "Where the spool is kept: pushes on their way to the relays. Empty keeps it in memory only. Default: $STATE_DIRECTORY, else agent-data.").
		PlaceHolder("DIR").IsSetByUser(&asked).String()
	serve.Flag("data.no-lock", "Do without the lock on the data dir, for file systems that have none.").BoolVar(&o.DataDirNoLock)
	spoolBytes := serve.Flag("spool.max-bytes", "What the spool may hold, bodies compressed; pushes are answered 503 when it is full. 0 for no limit.").Default(commandline.Bytes(o.SpoolMaxBytes)).Bytes()
	listen := *o.Web.WebListenAddresses
	o.Web = kingpinflag.AddFlags(serve, listen[0])
	listenAsked := false
	serve.GetFlag("web.listen-address").Default(listen...).IsSetByUser(&listenAsked).
		Help("Where local jobs push, host:port or unix:PATH, such as unix:/run/relay-agent/agent.sock (repeatable; default: " + listen[0] + ", and " + listen[1] + " where there is IPv6). A Unix socket has mode 0660, and needs no password.")
	serve.Flag("web.allowed-host", "Further name by which this machine is asked for on its loopback, such as that of a proxy in front (repeatable; known are IP addresses, localhost and the machine's name). Any other is answered 421, since a page of another site may be behind it.").
		PlaceHolder("NAME").StringsVar(&o.AllowedHosts)

	serve.Flag("push.wait", "How long a push waits for the relays' verdicts before it is answered 202 and kept.").Default(commandline.Duration(o.PushWait)).DurationVar(&o.PushWait)
	limits := pushflags.Limits(serve, o.PushLimits)
	return func() agent.Options {
		o.DataDirAsked, o.SpoolMaxBytes = asked, int64(*spoolBytes)
		o.EnrollToken = os.Getenv(tokenVariable)
		if asked {
			o.DataDir = *dataDir
		}
		if listenAsked {
			o.WebOptional = nil
		}
		o.PushLimits = limits()
		return o
	}
}

// processors are those that the agent uses at once: it shares the machine with what it is there for. Its goroutines hand over to each
// other without waking up threads then, which takes a third of the processor time of a small scrape; one processor passes on some
// 700 MB/s. $GOMAXPROCS wins.
const processors = 1

// runAgent runs the agent until ctx ends, and reloads its configuration at each of reloads.
func runAgent(ctx context.Context, reloads <-chan os.Signal, o agent.Options) error {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors)
	}
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	reloaded := make(chan struct{})
	defer func() { <-reloaded }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with ctx, and is waited for above
		defer close(reloaded)
		for {
			select {
			case <-ctx.Done():
				return
			case <-reloads:
				a.Reload() //nolint:errcheck // It logs what is wrong and keeps the earlier configuration.
			}
		}
	}()
	return a.Run(ctx)
}
