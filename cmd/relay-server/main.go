// Command relay-server is the public relay: a Pushgateway that agents in isolated networks also push to and are scraped
// through. Its flags are listed by --help; docs/reference explains them.
//
// It logs to standard error, ends with exit code 0 on SIGTERM and SIGINT after draining, and reloads its configuration and policy files on SIGHUP. Certificate
// files it reads again by itself when they change.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/promslog"
	promslogflag "github.com/prometheus/common/promslog/flag"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web/kingpinflag"

	"pushrelay/internal/commandline"
	"pushrelay/internal/pushflags"
	"pushrelay/internal/relay"
	"pushrelay/internal/relayapi"
)

const serveHelp = `Run the relay; what happens without a command.

Example: relay-server --data.dir=/var/lib/pushrelay --grpc.tls.server-name=relay.example.org`

// flagChoices are what flags can have, for completion.
var flagChoices = map[string][]string{
	"output": {"text", "json"}, "state": relayapi.States(), "log.level": promslog.LevelFlagOptions, "log.format": promslog.FormatFlagOptions,
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	app := kingpin.New("relay-server", "Takes metrics out of networks that nobody can dial into: a Pushgateway, and a relay for agents.")
	app.Version(version.Print("relay-server"))
	app.HelpFlag.Short('h')
	commandline.SetUsage(app)
	app.UsageWriter(stdout)
	exited := false
	status := 0
	app.Terminate(func(code int) { exited, status = true, code })

	var dataDirAsked bool
	dataDir := app.Flag("data.dir", "What the relay keeps: pushed groups, known agents, its own certificate authority. Empty keeps everything in memory. (default: the file of --persistence.file with .relay added, else $STATE_DIRECTORY, else data)").
		IsSetByUser(&dataDirAsked).PlaceHolder("DIR").String()

	noLock := app.Flag("data.no-lock", "Do without the lock on the data dir, for file systems that have none. Two relays on one data dir then destroy it.").Default("false").Bool()

	serve := app.Command("serve", serveHelp).Default()
	opts := serveFlags(serve)
	witness := newWitnessCommand(app)
	logging := &promslog.Config{Writer: stderr}
	promslogflag.AddFlags(app, logging)

	certificates := certificateCommands(app)
	store := newStoreCommands(app)
	groups := newGroupsCommands(app)
	agents := newAgentsCommands(app)
	checks := newCheckCommand(app)
	explain := newExplainCommands(app)
	readiness := newCheckReadyCommand(app)
	cluster := newClusterCommands(app)

	shells := commandline.Shells{App: app.Model(), Values: flagChoices}
	if shells.Answer(args, version.Version, stdout) {
		return 0
	}
	command, err := app.Parse(args)
	if exited {
		return status
	}
	if err != nil {
		fmt.Fprintf(stderr, "relay-server: %v (--help lists all flags)\n", commandline.Advise(app.Model(), args, err))
		return 2
	}
	if command == checks.FullCommand() {
		return checks.run(stdout, stderr)
	}
	if command == readiness.FullCommand() {
		return readiness.run(stderr)
	}
	if !dataDirAsked {
		*dataDir = relay.DefaultDataDir(opts().PersistenceFile)
	}
	if groups.has(command) {
		return groups.run(command, *dataDir, dataDirAsked, os.Stdin, stdout, stderr)
	}
	if explain.has(command) {
		return explain.run(command, relay.Agents{DataDir: *dataDir, NoLock: *noLock}, stdout, stderr)
	}
	if agents.has(command) {
		return agents.run(command, relay.Agents{DataDir: *dataDir, NoLock: *noLock}, stdout, stderr)
	}
	if cluster.has(command) {
		return cluster.run(command, relay.Agents{DataDir: *dataDir, NoLock: *noLock}, stdout, stderr)
	}
	switch {
	case command == witness.FullCommand():
		err = witness.run(*dataDir, promslog.New(logging))
	case store.has(command):
		err = store.run(command, relay.Keep{DataDir: *dataDir, NoLock: *noLock, Progress: progressOn(os.Stderr)}, stdout)
	case command != serve.FullCommand():
		err = certificates.run(command, *dataDir, stdout)
	default:
		o := opts()
		o.DataDir, o.DataDirAsked, o.DataDirNoLock = *dataDir, dataDirAsked, *noLock
		o.Progress = progressOn(os.Stderr)
		o.Flags = flagValues(app.Model().FlagGroupModel, serve.Model().FlagGroupModel)
		o.Flags["data.dir"] = *dataDir
		o.Logger = promslog.New(logging)
		err = runRelay(o)
	}
	if err != nil {
		fmt.Fprintf(stderr, "relay-server: %v\n", err)
		return 1
	}
	return 0
}

// serveFlags defines the flags of the relay, with the defaults of its options. The function that it returns reads them once they are parsed.
func serveFlags(serve *kingpin.CmdClause) func() relay.Options {
	o := relay.DefaultOptions()
	o.Web = kingpinflag.AddFlags(serve, (*o.Web.WebListenAddresses)[0])
	serve.Flag("web.telemetry-path", "Path under which to expose metrics.").Default(o.TelemetryPath).StringVar(&o.TelemetryPath)
	serve.Flag("web.external-url", "The URL under which the relay is externally reachable.").Default(o.ExternalURL).StringVar(&o.ExternalURL)
	serve.Flag("web.route-prefix", "Prefix for the internal routes of web endpoints. Defaults to the path of --web.external-url.").Default(o.RoutePrefix).StringVar(&o.RoutePrefix)
	serve.Flag("web.enable-lifecycle", "Enable shutdown and reload via HTTP request.").Default(strconv.FormatBool(o.EnableLifecycle)).BoolVar(&o.EnableLifecycle)
	serve.Flag("web.enable-admin-api", "Enable API endpoints for admin control actions.").Default(strconv.FormatBool(o.EnableAdminAPI)).BoolVar(&o.EnableAdminAPI)
	serve.Flag("web.max-concurrent-scrapes", "Scrapes of the telemetry path that are answered at once; others wait for their turn.").Default(strconv.Itoa(o.MaxConcurrentScrapes)).IntVar(&o.MaxConcurrentScrapes)
	serve.Flag("web.legacy-metrics", "Expose the Pushgateway's own metrics (pushgateway_…) beside the relay's.").Default(strconv.FormatBool(o.LegacyMetrics)).BoolVar(&o.LegacyMetrics)
	serve.Flag("web.enable-openmetrics", "Serve OpenMetrics 1.0 to scrapers that ask for it.").Default(strconv.FormatBool(o.EnableOpenMetrics)).BoolVar(&o.EnableOpenMetrics)

	serve.Flag("config.file", "Push rules: what holds of groups whose pushes do not say when the next one is due and how long they are true; none without it.").PlaceHolder("FILE").StringVar(&o.ConfigFile)
	serve.Flag("policy.file", "Who may do what: which agents may push and serve what and how much, which users may read, push, delete and administer what. Everything is allowed without it.").PlaceHolder("FILE").StringVar(&o.PolicyFile)
	serve.Flag("groups.forget-after", "How long what is left of an expired group is kept, so that its alert goes on; 0 for ever.").Default(commandline.Duration(o.GroupsForgetAfter)).DurationVar(&o.GroupsForgetAfter)

	serve.Flag("persistence.file", "File of a Pushgateway: taken over at the first start, and written in the Pushgateway's format for the way back. Empty for none.").Default(o.PersistenceFile).PlaceHolder("FILE").StringVar(&o.PersistenceFile)
	serve.Flag("persistence.interval", "The minimum interval at which to write out the persistence file.").Default(commandline.Duration(o.PersistenceInterval)).DurationVar(&o.PersistenceInterval)
	serve.Flag("persistence.export", "Write the persistence file; off leaves it as it was found.").Default(strconv.FormatBool(o.PersistenceExport)).BoolVar(&o.PersistenceExport)

	serve.Flag("grpc.listen-address", "Address on which agents dial in.").Default(o.GRPCListenAddress).StringVar(&o.GRPCListenAddress)
	serve.Flag("grpc.tls.cert-file", "Certificate that the relay shows to agents. Without the three files the relay uses its own authority in the data dir.").PlaceHolder("FILE").StringVar(&o.GRPCTLS.CertFile)
	serve.Flag("grpc.tls.key-file", "Key of the certificate.").PlaceHolder("FILE").StringVar(&o.GRPCTLS.KeyFile)
	serve.Flag("grpc.tls.client-ca-file", "Certificate authority of the agents.").PlaceHolder("FILE").StringVar(&o.GRPCTLS.CAFile)
	serve.Flag("grpc.tls.also-own-ca", "With the three files: take agents of the relay's own authority in the data dir, too, so that it can issue certificates.").Default(strconv.FormatBool(o.GRPCAlsoOwnCA)).BoolVar(&o.GRPCAlsoOwnCA)
	serve.Flag("grpc.tls.crl-file", "Certificate revocation lists of the agents' authorities, in PEM or DER; read again when it changes. Goes with the three files.").PlaceHolder("FILE").StringVar(&o.GRPCCRLFile)
	serve.Flag("grpc.tls.server-name", "Name or address in the certificate that the relay makes for itself (repeatable; default: host name, localhost, 127.0.0.1).").PlaceHolder("NAME").StringsVar(&o.GRPCServerNames)

	limits := pushflags.Limits(serve, o.PushLimits)
	serve.Flag("push.timeout", "How long a push may wait until it is stored; then it is answered 503.").Default(commandline.Duration(o.PushTimeout)).DurationVar(&o.PushTimeout)
	serve.Flag("push.agent-label", "Grouping label that pushes through an agent get, with the agent's identity as its value; empty for none.").Default(o.AgentLabel).StringVar(&o.AgentLabel)
	serve.Flag("push.disable-consistency-check", "Answer pushes 202, also those that do not fit; what does not fit is kept but not exposed.").Default(strconv.FormatBool(o.DisableConsistencyCheck)).BoolVar(&o.DisableConsistencyCheck)
	serve.Flag("push.enable-utf8-names", "Allow UTF-8 characters in metric and label names.").Default(strconv.FormatBool(o.EnableUTF8Names)).BoolVar(&o.EnableUTF8Names)
	serve.Flag("store.max-series", "Series in the whole store; 0 for no limit.").Default(strconv.Itoa(o.MaxSeries)).IntVar(&o.MaxSeries)
	serve.Flag("store.max-groups", "Groups in the whole store; 0 for no limit.").Default(strconv.Itoa(o.MaxGroups)).IntVar(&o.MaxGroups)

	maxScrape := serve.Flag("scrape.max-body-size", "Largest body of a scrape through the tunnel; 0 for no limit.").Default(commandline.Bytes(o.ScrapeMaxBodyBytes)).Bytes()
	serve.Flag("scrape.max-timeout", "Longest time of a scrape through the tunnel, whatever the scraper allows.").Default(commandline.Duration(o.ScrapeMaxTimeout)).DurationVar(&o.ScrapeMaxTimeout)
	serve.Flag("agents.max-concurrent-scrapes", "Scrapes of one agent at once.").Default(strconv.Itoa(o.AgentMaxConcurrentScrapes)).IntVar(&o.AgentMaxConcurrentScrapes)
	serve.Flag("agents.max-groups", "Groups of one agent; 0 for no limit.").Default(strconv.Itoa(o.AgentMaxGroups)).IntVar(&o.AgentMaxGroups)
	serve.Flag("agents.max-series", "Series of all groups of one agent; 0 for no limit.").Default(strconv.Itoa(o.AgentMaxSeries)).IntVar(&o.AgentMaxSeries)
	serve.Flag("agents.certificate-lifetime", "How long certificates live that agents get by a join token, or by renewing the one that they have, after half of that.").Default(commandline.Duration(o.AgentCertificateLifetime)).DurationVar(&o.AgentCertificateLifetime)
	serve.Flag("agents.renewal-grace", "How long after its end a certificate may still be renewed, by an agent that was away.").Default(commandline.Duration(o.AgentRenewalGrace)).DurationVar(&o.AgentRenewalGrace)
	serve.Flag("agents.forget-after", "How long a departed agent stays listed.").Default(commandline.Duration(o.AgentForgetAfter)).DurationVar(&o.AgentForgetAfter)
	serve.Flag("cluster.max-staleness", "For how long a member of a cluster that hears no majority is ready, and shows nothing that others may have gone beyond.").Default(commandline.Duration(o.ClusterMaxStaleness)).DurationVar(&o.ClusterMaxStaleness)
	endpoints := etcdFlags(serve, &o)
	serve.Flag("cluster.etcd-admin-socket", adminSocketHelp).PlaceHolder("PATH").StringVar(&o.ClusterEtcdAdminSocket)
	serve.Flag("shutdown.timeout", "How long what is in flight may take when the relay stops.").Default(commandline.Duration(o.ShutdownTimeout)).DurationVar(&o.ShutdownTimeout)
	return func() relay.Options {
		o.PushLimits = limits()
		o.ClusterEtcd.Endpoints = endpoints()
		o.ScrapeMaxBodyBytes = int64(*maxScrape)
		return o
	}
}

// flagValues returns the flags as text, by name, without those that end the program at once.
func flagValues(groups ...*kingpin.FlagGroupModel) map[string]string {
	values := map[string]string{}
	for _, group := range groups {
		for _, flag := range group.Flags {
			if flag.Hidden || flag.Name == "help" || flag.Name == "version" {
				continue
			}
			values[flag.Name] = flag.Value.String()
		}
	}
	return values
}

// gcPercent trades processor time for memory: what the relay holds lives long and garbage is little, so that a heap that may
// double costs more than it saves. $GOGC wins.
const gcPercent = 50

func runRelay(o relay.Options) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var server atomic.Pointer[relay.Server]
	var reloads sync.WaitGroup
	defer reloads.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first sync.Once
	return relay.Serve(ctx, o, func(s *relay.Server) {
		server.Store(s)
		first.Do(func() { reloads.Go(func() { reloadOn(ctx, hangup, &server) }) })
	})
}

// reloadOn reloads the configuration of the relay of the moment at every signal until ctx ends.
func reloadOn(ctx context.Context, hangup <-chan os.Signal, server *atomic.Pointer[relay.Server]) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			server.Load().Reload() //nolint:errcheck // It logs what is wrong and keeps the earlier configuration.
		}
	}
}
