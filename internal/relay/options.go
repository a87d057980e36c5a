package relay

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/mtls"
)

// Options are the flags of the relay; see relay-server --help.
type Options struct {
	// Web says where to serve HTTP. Required.
	Web *web.FlagConfig
	// TelemetryPath is where Prometheus scrapes, below the route prefix.
	TelemetryPath string
	// ExternalURL is how others reach the relay; empty if that is how they ask.
	ExternalURL string
	// RoutePrefix is the prefix of all routes; empty takes the path of ExternalURL.
	RoutePrefix string
	// EnableLifecycle serves /-/quit and /-/reload; EnableAdminAPI serves the wipe and the forgetting of agents.
	EnableLifecycle, EnableAdminAPI bool
	// MaxConcurrentScrapes bounds the scrapes of the telemetry path that are answered at once.
	MaxConcurrentScrapes int
	// LegacyMetrics exposes the Pushgateway's own metrics beside the relay's.
	LegacyMetrics bool
	// EnableOpenMetrics serves OpenMetrics 1.0 to those who ask for it.
	EnableOpenMetrics bool

	// ConfigFile has the push rules; empty for none.
	ConfigFile string
	// PolicyFile says who may do what; empty for nothing is forbidden.
	PolicyFile string
	// GroupsForgetAfter is how long what is left of an expired group is kept; 0 for ever.
	GroupsForgetAfter time.Duration

	// DataDir is what the relay keeps; see DataDirAsked.
	DataDir string
	// DataDirAsked says that DataDir was given and is no default: it must then be usable, and empty means memory only.
	DataDirAsked bool
	// DataDirNoLock does without the lock on the store, for file systems that have none.
	DataDirNoLock bool

	// PersistenceFile is a Pushgateway's file: taken over once, and written in its format every PersistenceInterval and at
	// the end, if PersistenceExport says so. Empty for none.
	PersistenceFile     string
	PersistenceInterval time.Duration
	PersistenceExport   bool
	// Progress is told of long work before the relay is ready; nil for nobody.
	Progress func(what string, done, total int64)

	// GRPCListenAddress is where agents dial in.
	GRPCListenAddress string
	// GRPCTLS are the files of mutual TLS; all empty for the relay's own CA in the data dir. OwnCAFile is no option.
	GRPCTLS mtls.Files
	// GRPCAlsoOwnCA takes agents of the relay's own CA as well, where GRPCTLS has files.
	GRPCAlsoOwnCA bool
	// GRPCCRLFile has certificate revocation lists of the authorities in GRPCTLS; empty for none.
	GRPCCRLFile string
	// GRPCServerNames are the names in the certificate that the relay makes for itself; empty for the host name, localhost
	// and 127.0.0.1.
	GRPCServerNames []string

	// PushLimits bound each push, PushTimeout the wait until it is stored.
	PushLimits  exposition.Limits
	PushTimeout time.Duration
	// DisableConsistencyCheck answers pushes 202 and keeps what does not fit apart from what does.
	DisableConsistencyCheck bool
	// EnableUTF8Names allows names of metrics and labels beyond the legacy ones.
	EnableUTF8Names bool
	// AgentLabel is the grouping label that pushes through an agent get; empty for none.
	AgentLabel string
	// MaxSeries and MaxGroups bound the whole store; 0 for no limit.
	MaxSeries, MaxGroups int

	// ScrapeMaxBodyBytes, ScrapeMaxTimeout and AgentMaxConcurrentScrapes bound scrapes through the tunnel.
	ScrapeMaxBodyBytes        int64
	ScrapeMaxTimeout          time.Duration
	AgentMaxConcurrentScrapes int
	// AgentMaxSeries and AgentMaxGroups bound what the groups of one agent hold; 0 for no limit.
	AgentMaxSeries, AgentMaxGroups int
	// AgentCertificateLifetime is how long certificates live that agents get by a token or by renewing the one that they have; AgentRenewalGrace is how
	// long after its end one may still be renewed.
	AgentCertificateLifetime, AgentRenewalGrace time.Duration
	// AgentForgetAfter is how long a departed agent stays known.
	AgentForgetAfter time.Duration

	// ClusterMaxStaleness is for how long a member of a cluster that hears no majority is to be asked for what it has.
	ClusterMaxStaleness time.Duration
	// ClusterEtcd is an etcd that runs by itself, which the cluster uses instead of one within its members; without endpoints there is none. Its Logger is not
	// used. ClusterEtcdDedicated says that it is there for the relays alone: they compact and defragment it.
	ClusterEtcd          engine.DialConfig
	ClusterEtcdDedicated bool
	// ClusterEtcdAdminSocket is where the etcd of a member takes clients as well, an absolute path; empty for nowhere.
	ClusterEtcdAdminSocket string

	// ShutdownTimeout bounds the wait for what is in flight when the relay stops.
	ShutdownTimeout time.Duration
	// Flags are all flags as text, for people.
	Flags map[string]string
	// Logger is required.
	Logger *slog.Logger
}

// DefaultGRPCPort is the port that agents dial unless it is set.
const DefaultGRPCPort = 9443

// DefaultOptions returns the options of a relay that was given none of its flags. It lacks what is required and has no default: the
// logger.
func DefaultOptions() Options {
	systemdSocket, webConfig := false, ""
	return Options{
		Web:                       &web.FlagConfig{WebListenAddresses: &[]string{":9091"}, WebSystemdSocket: &systemdSocket, WebConfigFile: &webConfig},
		TelemetryPath:             "/metrics",
		MaxConcurrentScrapes:      8,
		LegacyMetrics:             true,
		GroupsForgetAfter:         7 * 24 * time.Hour,
		DataDir:                   DefaultDataDir(""),
		PersistenceInterval:       5 * time.Minute,
		PersistenceExport:         true,
		GRPCListenAddress:         fmt.Sprintf(":%d", DefaultGRPCPort),
		PushLimits:                exposition.DefaultLimits(),
		PushTimeout:               10 * time.Second,
		AgentLabel:                "agent",
		ScrapeMaxBodyBytes:        256 << 20,
		ScrapeMaxTimeout:          2 * time.Minute,
		AgentMaxConcurrentScrapes: 32,
		AgentMaxSeries:            1_000_000,
		AgentMaxGroups:            50_000,
		AgentCertificateLifetime:  30 * 24 * time.Hour,
		AgentRenewalGrace:         90 * 24 * time.Hour,
		AgentForgetAfter:          24 * time.Hour,
		ClusterMaxStaleness:       time.Minute,
		ClusterEtcd:               engine.DialConfig{Prefix: membership.DefaultPrefix},
		ShutdownTimeout:           20 * time.Second,
	}
}

// externalURL returns the parsed external URL, nil if there is none.
func (o *Options) externalURL() (*url.URL, error) {
	if o.ExternalURL == "" {
		return nil, nil
	}
	u, err := url.Parse(o.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("--web.external-url: %w", err)
	}
	return u, nil
}

// routePrefix returns the prefix of all routes: empty, or with a leading slash and without a trailing one.
func (o *Options) routePrefix(external *url.URL) string {
	prefix := o.RoutePrefix
	if prefix == "" && external != nil {
		prefix = external.Path
	}
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return ""
	}
	return "/" + prefix
}

// names says which names may be pushed.
func (o *Options) names() metric.NameScheme {
	if o.EnableUTF8Names {
		return metric.UTF8Names
	}
	return metric.LegacyNames
}

// progress returns what is to be told of one kind of work, nil for nobody.
func (o *Options) progress(what string) func(done, total int64) {
	if o.Progress == nil {
		return nil
	}
	return func(done, total int64) { o.Progress(what, done, total) }
}
