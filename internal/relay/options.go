package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/mtls"
	"pushrelay/internal/push"
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
	// EnableLifecycle serves /-/quit; EnableAdminAPI serves the wipe and the forgetting of agents.
	EnableLifecycle, EnableAdminAPI bool
	// MaxConcurrentScrapes bounds the scrapes of the telemetry path that are answered at once.
	MaxConcurrentScrapes int
	// LegacyMetrics exposes the Pushgateway's own metrics beside the relay's.
	LegacyMetrics bool
	// EnableOpenMetrics serves OpenMetrics 1.0 to those who ask for it.
	EnableOpenMetrics bool

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
	// GRPCTLS are the files of mutual TLS; all empty for the relay's own CA in the data dir.
	GRPCTLS mtls.Files
	// GRPCServerNames are the names in the certificate that the relay makes for itself; empty for the host name, localhost
	// and 127.0.0.1.
	GRPCServerNames []string

	// PushLimits bound each push, PushTimeout the wait until it is stored.
	PushLimits  push.Limits
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
	// AgentForgetAfter is how long a departed agent stays known.
	AgentForgetAfter time.Duration

	// ShutdownTimeout bounds the wait for what is in flight when the relay stops.
	ShutdownTimeout time.Duration
	// Flags are all flags as text, for people.
	Flags map[string]string
	// Logger is required.
	Logger *slog.Logger
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

func (o *Options) validate() error {
	if !strings.HasPrefix(o.TelemetryPath, "/") {
		return fmt.Errorf("--web.telemetry-path %q does not begin with a slash", o.TelemetryPath)
	}
	if o.AgentLabel != "" && (!model.LegacyValidation.IsValidLabelName(o.AgentLabel) || strings.HasPrefix(o.AgentLabel, model.ReservedLabelPrefix)) {
		return fmt.Errorf("--push.agent-label %q is not a label name", o.AgentLabel)
	}
	if o.AgentLabel == model.JobLabel {
		return errors.New("--push.agent-label cannot be job: every group has that label already")
	}
	for _, positive := range []struct {
		flag  string
		value time.Duration
	}{
		{"--push.timeout", o.PushTimeout},
		{"--scrape.max-timeout", o.ScrapeMaxTimeout},
		{"--agents.forget-after", o.AgentForgetAfter},
		{"--shutdown.timeout", o.ShutdownTimeout},
	} {
		if positive.value <= 0 {
			return fmt.Errorf("%s is %s, want more than nothing", positive.flag, positive.value)
		}
	}
	if o.PersistenceFile != "" && o.PersistenceExport && o.PersistenceInterval <= 0 {
		return fmt.Errorf("--persistence.interval is %s, want more than nothing", o.PersistenceInterval)
	}
	for _, positive := range []struct {
		flag  string
		value int
	}{
		{"--agents.max-concurrent-scrapes", o.AgentMaxConcurrentScrapes}, {"--web.max-concurrent-scrapes", o.MaxConcurrentScrapes},
	} {
		if positive.value <= 0 {
			return fmt.Errorf("%s is %d, want at least 1", positive.flag, positive.value)
		}
	}
	for _, limit := range []struct {
		flag  string
		value int64
	}{
		{"--push.max-body-size", o.PushLimits.MaxBodyBytes},
		{"--push.max-decompressed-size", o.PushLimits.MaxDecompressedBytes},
		{"--push.max-inflight-bytes", o.PushLimits.MaxInflightBytes},
		{"--push.max-series", int64(o.PushLimits.MaxSeries)},
		{"--push.max-labels", int64(o.PushLimits.MaxLabels)},
		{"--push.max-label-length", int64(o.PushLimits.MaxLabelLength)},
		{"--store.max-series", int64(o.MaxSeries)},
		{"--store.max-groups", int64(o.MaxGroups)},
		{"--agents.max-series", int64(o.AgentMaxSeries)},
		{"--agents.max-groups", int64(o.AgentMaxGroups)},
		{"--scrape.max-body-size", o.ScrapeMaxBodyBytes},
	} {
		if limit.value < 0 {
			return fmt.Errorf("%s is %d, want 0 for no limit or more", limit.flag, limit.value)
		}
	}
	given := 0
	for _, file := range []string{o.GRPCTLS.CertFile, o.GRPCTLS.KeyFile, o.GRPCTLS.CAFile} {
		if file != "" {
			given++
		}
	}
	switch given {
	case 0:
		return nil
	case 3:
		// Also says that a certificate is expired, which a running relay would live with.
		_, err := mtls.Load(mtls.Relay, o.GRPCTLS)
		return err
	default:
		return errors.New("--grpc.tls.cert-file, --grpc.tls.key-file and --grpc.tls.client-ca-file go together: give all or none")
	}
}

// groupingNames and exposedNames say which names may be pushed, in the words of the grouping key and of the exposition.
func (o *Options) groupingNames() grouping.NameScheme {
	if o.EnableUTF8Names {
		return grouping.UTF8Names
	}
	return grouping.LegacyNames
}

func (o *Options) exposedNames() exposition.NameScheme {
	if o.EnableUTF8Names {
		return exposition.UTF8Names
	}
	return exposition.LegacyNames
}
