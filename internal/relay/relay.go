// Package relay composes the relay: the grouping store and the push API over it, the registry of agents and the tunnel to
// them, and every HTTP route.
//
// [New] checks everything that can be wrong and binds the listeners; [Server.Run] runs it all until its context ends,
// drains, and waits for every part. It puts together what others do: options.go and validate.go, build.go and listen.go, run.go,
// and routes.go. Beside that it has what stands between its parts or speaks the words of the flags: how the store lives in the data dir
// (durability.go), the Pushgateway's file (handover.go), the relay's certificate, how much of the store each agent holds
// (quotas.go), its files of rules (rules.go) and what follows from its policy file (policy.go), and the commands on the data dir. Start reading at [Options], then routes.go.
package relay

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/authority"
	"pushrelay/internal/change"
	"pushrelay/internal/control"
	"pushrelay/internal/enrol/enrolserver"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/ingest"
	"pushrelay/internal/ledger"
	"pushrelay/internal/lifecycle"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/mtls"
	"pushrelay/internal/policy"
	"pushrelay/internal/push"
	"pushrelay/internal/queryapi"
	"pushrelay/internal/recent"
	"pushrelay/internal/roster"
	"pushrelay/internal/tunnel/tunnelserver"
	"pushrelay/internal/web"
)

// state is what /-/ready tells.
type state int32

const (
	starting state = iota
	ready
	draining
)

// Server is a running relay, or one about to run.
type Server struct {
	// static after New
	opts          Options
	process       process
	external      *url.URL // nil if it is not configured
	prefix        string   // of all routes: empty, or with a leading slash and without a trailing one
	dataDir       string   // empty in memory only
	files         files    // as they were at the start
	wasMember     bool     // the data dir was that of a member then
	logger        *slog.Logger
	telemetry     *prometheus.Registry
	instrument    push.Instrument        // counts requests for the legacy metrics
	laterFamilies []groupstore.OwnFamily // metric families of ours that have no series yet
	ownFamilies   []groupstore.OwnFamily // all metric families of ours that anybody might push as well
	store         *groupstore.Store
	durability    *durability
	agents        *roster.Registry
	presence      *presence
	lives         *lifecycle.Keeper
	ingester      *ingest.Ingester
	quotas        *quotas
	budget        *push.Budget
	authority     *authority.Authority // nil unless agents of it are taken, see TakesOwnCertificates
	grpc          net.Listener         // nil if agents cannot dial in
	web           *httpserver.Server
	startedAt     time.Time
	reloads       *reloadMetrics
	groups        *queryapi.Groups
	guard         *policy.Guard
	recent        *recent.Recent
	pages         *web.Handler

	routes atomic.Pointer[routes] // nil until all is built

	cluster *clustered  // nil for a relay alone; a member that leaves becomes one in Run
	shared  texts       // the files by which all relays of the cluster go; guarded by using
	changes interface { // decides changes without a body, wherever that is
		ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome
	}
	applier push.Applier // takes pushes, wherever they are decided

	// set by Run before the state is ready
	ledger       *ledger.Ledger // nil in memory only, as control
	control      *control.Control
	socket       *httpserver.Server   // of control; nil if there is none
	tunnel       *tunnelserver.Server // nil if agents cannot dial in
	enrolment    *enrolserver.Server  // nil with it
	certificates *mtls.Reloader       // what the tunnel shows; nil with it
	// revocationLists are those of --grpc.tls.crl-file; nil for none.
	revocationLists *mtls.RevocationLists

	backingUp sync.Mutex                      // held while a backup is handed out
	reloading sync.Mutex                      // held while the files of rules are read, and until they are in use
	using     sync.Mutex                      // held while files of rules are put to use; taken after reloading
	rules     []lifetime.Rule                 // of the configuration file that is in use; guarded by using
	adding    atomic.Pointer[[]lifetime.Rule] // those of rules that say how pushes are added up; set under using
	recovered bool                            // the store is, so that rules can be put to use; guarded by using

	state   atomic.Int32
	isReady chan struct{} // closed when the state is ready for the first time
	quit    chan struct{} // /-/quit asks for an end; one slot
	restart chan struct{} // asks for another relay in place of this one; one slot
}

// Addr returns the address of the HTTP listener.
func (s *Server) Addr() net.Addr { return s.web.Addr() }

// GRPCAddr returns the address of the agents' port, nil if there is none.
func (s *Server) GRPCAddr() net.Addr {
	if s.grpc == nil {
		return nil
	}
	return s.grpc.Addr()
}

// grpcPort returns the port that agents dial; empty if there is none.
func (s *Server) grpcPort() string {
	if s.grpc == nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(s.grpc.Addr().String()) // what listens has one
	return port
}
