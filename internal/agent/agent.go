// Package agent composes the agent: links to relays, targets and text files from the configuration file, the local push API.
//
// [New] checks everything that can be wrong and binds the listener; [Agent.Run] runs it all until its context ends and
// waits for every part. It only puts together what others do: options.go and validate.go, credentials.go and enroll.go, build.go, run.go, and what HTTP
// serves in routes.go and status.go. Start reading at [Options].
package agent

import (
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/push"
	"pushrelay/internal/spool"
	"pushrelay/internal/targets"
	"pushrelay/internal/textfile"
	"pushrelay/internal/tunnel/tunnelclient"
)

// Agent is a running agent, or one about to run.
type Agent struct {
	opts        Options
	logger      *slog.Logger
	registry    *prometheus.Registry
	startedAt   time.Time
	enrolment   *enrolment // nil if there is none to be done before the agent begins
	client      *enrolclient.Client
	name        string
	credentials []*credential
	spool       *spool.Spool
	links       []*tunnelclient.Link
	discovery   *targets.Discovery
	textfiles   *textfile.Collector
	rules       pushRules
	pushes      *push.Handler
	web         *httpserver.Server
	reloads     *reloadMetrics
	front       front       // answers requests
	built       atomic.Bool // all that is below enrolment is there
}

// Addr returns the address of the local push API.
func (a *Agent) Addr() net.Addr { return a.web.Addr() }
