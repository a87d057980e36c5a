package link

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/push"
	"pushrelay/internal/scrape"
)

// Protocol is the name of the protocol of members (ALPN), by which their connections are told apart on the agents' port.
const Protocol = "relay-member/1"

// Config is what a [Link] works with. All is required that does not say otherwise, and every function must be safe for concurrent use.
type Config struct {
	// Name is this member's.
	Name string
	// Incarnation is that of this process, as its running key has it.
	Incarnation [16]byte

	// ServerTLS and ClientTLS are what connections of members are made with: TLS 1.3, a member's certificate of now, and the verification of the other
	// one's. The protocol is set here.
	ServerTLS, ClientTLS func() *tls.Config
	// Identify returns the name of the member that a verified connection is with.
	Identify func(tls.ConnectionState) (name string, err error)
	// Members returns the names of those who are members now, and IsMember whether one is.
	Members  func() []string
	IsMember func(name string) bool
	// Address returns where a member is dialled, host:port; ok is false if that is not known.
	Address func(name string) (address string, ok bool)

	// Leader returns who decides.
	Leader func() Leader
	// Running returns the incarnation of the process of a member that has the running key now. It is asked under the store's lock, and must not block.
	Running func(name string) (incarnation [16]byte, ok bool)
	// EpochCurrent says whether the agent's session of that epoch may change groups. It is asked under the store's lock, and must not block.
	EpochCurrent func(agent string, epoch int64) bool
	// Gone says of an incarnation that it will not run again: see groupstore.Config.Gone. Journals returns those of which the store has traces.
	Gone     func(incarnation [16]byte) bool
	Journals func() [][16]byte

	// Push decides pushes where this relay leads, and Store all else.
	Push  push.Applier
	Store Store
	// WaitFor waits until this relay's copy of the store has that position, or ctx ends.
	WaitFor func(ctx context.Context, position uint64) error
	// Timeout is how long a change of another relay may take until it is decided; 0 for no bound.
	Timeout time.Duration
	// Budget bounds the bodies of all pushes. What other relays hand on takes at most half of it. Nil is no bound.
	Budget *push.Budget

	// Local scrapes through this relay's own sessions.
	Local scrape.Scraper
	// Here says whether the agent has a session with this relay. Places returns the members that it has one with, the best first.
	Here   func(agent string) bool
	Places func(agent string) []string

	// State returns how this member is.
	State func() State

	Logger *slog.Logger
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
}

// Store is what is needed of a grouping store; see groupstore.Store.
type Store interface {
	ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome
}

// Leader is who decides, as far as this relay knows.
type Leader struct {
	// Name is the member's, empty for none.
	Name string
	// Term is that of its leadership; a later one is higher.
	Term int64
	// Leads says that this relay is the one, and decides already.
	Leads bool
	// Changed is closed when any of this is another.
	Changed <-chan struct{}
}

// State is how a member is.
type State struct {
	// Revision is that of the engine up to which its copy of the store has everything; 0 if that is not known.
	Revision int64
	// Position is that of the last change that it shows.
	Position uint64
	// Lag is how long its copy has been behind; 0 if it is not.
	Lag time.Duration
	// Leads says that it decides, in that Term, or else that it knows one that does in that term.
	Leads bool
	Term  int64
	// HasQuorum says that it hears a majority of the engine's members.
	HasQuorum bool
	// Heard is when this relay last heard of it, by this relay's clock.
	Heard time.Time
}
