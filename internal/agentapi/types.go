package agentapi

import "time"

// AgentHeader is in an agent's answer to GET /-/healthy, and has its version: a relay and a Pushgateway answer there too, and to
// pushes as well.
const AgentHeader = "X-Relay-Agent"

// Status is what an agent tells of itself: the data of its GET /api/v1/status. Times are in UTC.
type Status struct {
	// Agent is the agent's name, as its certificates have it.
	Agent string `json:"agent"`
	// Version is the agent's, StartTime when its process began.
	Version   string    `json:"version"`
	StartTime time.Time `json:"start_time"`
	// Identities are what the agent got by join tokens and renews by itself; none for an agent whose certificate is given by flags.
	Identities []Identity `json:"identities"`
	// Relays are those that it dials, Targets those of its configuration, in that order.
	Relays  []Relay  `json:"relays"`
	Targets []Target `json:"targets"`
	// TargetsMissing says why targets may be missing from that list; empty if none are.
	TargetsMissing string `json:"targets_missing"`
	// Textfiles are the text files and their directories that have something wrong with them.
	Textfiles []Textfile `json:"textfiles"`
	Spool     Spool      `json:"spool"`
}

// Textfile is a text file, or a directory of text files, that is not pushed as it is.
type Textfile struct {
	// Path is that of the file or directory.
	Path string `json:"path"`
	// Reason says in one line what is wrong.
	Reason string `json:"reason"`
}

// Identity is what the agent is to the relays of one authority.
type Identity struct {
	// Authority is the SHA-256 of the CA that it enrolled at.
	Authority string `json:"authority"`
	// Relays are those that it is used for.
	Relays []string `json:"relays"`
	// CertificateNotAfter is when its certificate ends, RenewalDue from when on it is renewed.
	CertificateNotAfter time.Time `json:"certificate_not_after"`
	RenewalDue          time.Time `json:"renewal_due"`
	// LastAttempt is when it was tried last to renew it; nil if it was not since the agent's start. LastError is why it did not work; empty if it did.
	LastAttempt *time.Time `json:"last_attempt"`
	LastError   string     `json:"last_error"`
	// Revoked says that a relay refused to renew it because the agent is revoked.
	Revoked bool `json:"revoked"`
}

// Relay is the link to one relay.
type Relay struct {
	// Address is host:port, as the agent dials it.
	Address string `json:"address"`
	// Connected says whether a session is open, Since from when on that is so, or not so.
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"`
	// RoundTripSeconds is the last measured; 0 before the first measurement.
	RoundTripSeconds float64 `json:"round_trip_seconds"`
	// Version is that of the relay of the last session; empty before the first.
	Version string `json:"version"`
	// LastError is why the last session ended, or could not begin; empty if there was no such reason.
	LastError string `json:"last_error"`
	// Revoked says that the relay has said that the agent is revoked, and has not let it in since.
	Revoked bool `json:"revoked"`
	// TargetsDenied says how many targets the relay does not list, which, and why; empty if it lists all, and without a session.
	TargetsDenied string `json:"targets_denied"`
	// Pending counts the changes of groups that wait for this relay.
	Pending int `json:"pending"`
	// Note is what people should know of its store, in one line; mostly empty.
	Note string `json:"note"`
}

// Spool is the agent's journal of pushes.
type Spool struct {
	// Bytes is what it holds, bodies compressed, and MaxBytes what it may; 0 for no limit.
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"max_bytes"`
	// Entries are the changes that wait for a relay, OldestSeconds the age of the oldest.
	Entries       int     `json:"entries"`
	OldestSeconds float64 `json:"oldest_seconds"`
	// Journal is its id (T11).
	Journal string `json:"journal"`
	// Writable says whether pushes are taken; if not, Error says why.
	Writable bool   `json:"writable"`
	Error    string `json:"error"`
}

// SpoolContent is what waits in the spool: the data of GET /api/v1/spool.
type SpoolContent struct {
	// Relays are the stores of the relays that are dialled.
	Relays []SpoolRelay `json:"relays"`
	// Groups are those that wait for a relay, one element for each relay, the oldest first.
	Groups []SpoolGroup `json:"groups"`
	// Rejections are the last pushes that a relay rejected too late, the newest first, since the agent's start.
	Rejections []SpoolRejection `json:"rejections"`
}

// SpoolRelay is how far one relay is.
type SpoolRelay struct {
	// Addresses are where it was met last.
	Addresses []string `json:"addresses"`
	// StoreID is that of its store; empty before it was met.
	StoreID string `json:"store_id"`
	Pending int    `json:"pending"`
}

// SpoolGroup is what waits of one group for one relay.
type SpoolGroup struct {
	GroupingKey map[string]string `json:"grouping_key"`
	Relay       string            `json:"relay"`
	// Changes counts them, Bytes is the size of their bodies as they will be sent, Oldest is when the first was pushed.
	Changes int       `json:"changes"`
	Bytes   int       `json:"bytes"`
	Oldest  time.Time `json:"oldest"`
}

// SpoolRejection is a push that was lost, because a relay rejected it after it had been answered 202.
type SpoolRejection struct {
	At          time.Time         `json:"at"`
	Relay       string            `json:"relay"`
	GroupingKey map[string]string `json:"grouping_key"`
	Operation   string            `json:"operation"`
	PushedAt    time.Time         `json:"pushed_at"`
	Reason      string            `json:"reason"`
}

// Target is a target that relays may scrape through the agent.
type Target struct {
	// Target is its name in the relay's URLs.
	Target   string            `json:"target"`
	Job      string            `json:"job"`
	Instance string            `json:"instance"`
	Address  string            `json:"address"`
	Labels   map[string]string `json:"labels"`
	// LastScrape is when the last scrape that has ended began; nil before the first. LastStatus is the HTTP status that the
	// target answered it with, 0 if it did not answer. LastError is why Prometheus has up 0 since; empty if that one went well.
	LastScrape          *time.Time `json:"last_scrape"`
	LastDurationSeconds float64    `json:"last_duration_seconds"`
	LastStatus          int        `json:"last_status"`
	LastError           string     `json:"last_error"`
}
