package agent

import (
	"log/slog"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"pushrelay/internal/datadir"
	"pushrelay/internal/exposition"
	"pushrelay/internal/mtls"
)

// Options are the flags of the agent; see relay-agent --help.
type Options struct {
	// RelayAddresses are the relays to dial, host:port. At least one with TLS; else empty means those of the agent's identities.
	RelayAddresses []string
	// RelayProxyURL is an HTTP proxy on the way to the relays; empty takes it from HTTPS_PROXY and NO_PROXY.
	RelayProxyURL string
	// TLS are the files of mutual TLS. The zero value means the agent's identities, in DataDir.
	TLS mtls.Files
	// EnrollTokenFile has a join token, or EnrollToken is one: the agent enrols with it before it begins, if it has no identity at the token's authority. It is not looked at
	// with TLS.
	EnrollTokenFile, EnrollToken string
	// EnrollName is the agent's name for that; empty for the token's, or that of the host.
	EnrollName string
	// ConfigFile names the targets; empty for an agent that only pushes.
	ConfigFile string
	// PushLimits bound each push, PushWait the wait for the relays' verdicts.
	PushLimits exposition.Limits
	PushWait   time.Duration
	// DataDir is where the spool is kept; see DataDirAsked.
	DataDir string
	// DataDirAsked says that DataDir was given and is no default: it must then be usable, and empty means memory only.
	DataDirAsked bool
	// DataDirNoLock does without the lock on the spool, for file systems that have none.
	DataDirNoLock bool
	// SpoolMaxBytes bounds what the spool holds; 0 means no limit.
	SpoolMaxBytes int64
	// Web says where to listen. Required.
	Web *web.FlagConfig
	// WebOptional are those of its addresses that are left out where the machine has no such address.
	WebOptional []string
	// AllowedHosts are names of this machine, beside its own and localhost, by which browsers and scrapers on it may ask for it.
	AllowedHosts []string
	// Logger is required.
	Logger *slog.Logger
}

// Where the agent listens by default: on the loopback of both kinds, since localhost may be either.
const (
	listenIPv4 = "127.0.0.1:9091"
	listenIPv6 = "[::1]:9091"
)

// DefaultOptions returns the options of an agent that was given none of its flags. It lacks what is required and has no default:
// the logger.
func DefaultOptions() Options {
	systemdSocket, webConfig := false, ""
	return Options{
		PushLimits:    exposition.DefaultLimits(),
		PushWait:      5 * time.Second,
		DataDir:       datadir.Default("agent-data"),
		SpoolMaxBytes: 1 << 30,
		Web: &web.FlagConfig{
			WebListenAddresses: &[]string{listenIPv4, listenIPv6}, WebSystemdSocket: &systemdSocket, WebConfigFile: &webConfig,
		},
		WebOptional: []string{listenIPv6},
	}
}
