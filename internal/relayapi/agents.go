package relayapi

import "time"

// ControlSocket is the Unix socket in the data dir at which a running relay is told what to do with agents (I9).
const ControlSocket = "control.sock"

// The routes at that socket, beside [GroupsPath]. Below that of the agents is one for each, and below that its actions.
const (
	ControlAgents       = "/agents"
	ControlCertificates = "/certificates"
	ControlBackup       = "/backup"
)

// The states of an agent. The first that holds counts.
const (
	AgentConnected = "connected" // it has a session
	AgentRevoked   = "revoked"   // its name is revoked, and each certificate that it has
	AgentAway      = "away"      // it had a session
	AgentUnseen    = "unseen"    // a certificate was issued to it, and the relay does not know it
)

// Agent is what is told of an agent, in JSON to programs as well.
type Agent struct {
	Agent string `json:"agent"`
	State string `json:"state"`
	// Revoked is the revocation of the name, nil for none: it stands for earlier certificates also of an agent that has a new one, and then the state is not
	// AgentRevoked. RevokedCertificates are those of single certificates.
	Revoked             *Revocation  `json:"revoked"`
	RevokedCertificates []Revocation `json:"revoked_certificates"`
	// SessionStarted, Version and RemoteAddress are those of the session, or of the last one. LastSeen is when it was last heard.
	SessionStarted *time.Time `json:"session_started"`
	LastSeen       *time.Time `json:"last_seen"`
	Version        string     `json:"version"`
	RemoteAddress  string     `json:"remote_address"`
	// CertificateNotAfter is when the certificate ends that it shows, or showed last, and CertificateSerial its serial number, if it is known.
	CertificateNotAfter *time.Time `json:"certificate_not_after"`
	CertificateSerial   string     `json:"certificate_serial"`
	Targets             int        `json:"targets"`
	// Groups and Series are what its groups hold in the store; nil if no relay runs that could say.
	Groups *int `json:"groups"`
	Series *int `json:"series"`
	// Certificates are those that were issued to it, the newest last; only where one agent is asked for.
	Certificates []Certificate `json:"certificates,omitempty"`
}

// Revocation is a revocation of a name or of a certificate.
type Revocation struct {
	Serial string    `json:"serial,omitempty"`
	At     time.Time `json:"at"`
}

// Certificate is one that was issued.
type Certificate struct {
	Serial   string    `json:"serial"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	By       string    `json:"by"`
	IssuedAt time.Time `json:"issued_at"`
	Address  string    `json:"address,omitempty"`
	// Token is the id of the token that it was issued for, Parent the serial number of the certificate that it renewed; at most one of them.
	Token   string `json:"token,omitempty"`
	Parent  string `json:"parent,omitempty"`
	Revoked bool   `json:"revoked"`
}

// Revoke says what is to be revoked of an agent, and what becomes of what it has here.
type Revoke struct {
	// Serial is that of the one certificate, as openssl prints it; empty for all.
	Serial string `json:"serial,omitempty"`
	// KeepTargets leaves its targets in the list, and down. DeleteGroups deletes what it pushed.
	KeepTargets  bool `json:"keep_targets,omitempty"`
	DeleteGroups bool `json:"delete_groups,omitempty"`
	// WithTokens voids the tokens with a prefix that reach the name.
	WithTokens bool `json:"with_tokens,omitempty"`
}

// Revoked is what a revocation has done.
type Revoked struct {
	Agent  string `json:"agent"`
	Serial string `json:"serial,omitempty"`
	// Known says whether the relay or the ledger knew the agent, and the certificate if one was named: what is not known may be a mistyped name.
	Known bool `json:"known"`
	// SessionsEnded are its sessions that were ended, TargetsRemoved its targets that left the list.
	SessionsEnded  int `json:"sessions_ended"`
	TargetsRemoved int `json:"targets_removed"`
	// Groups are those that it still has in the store, GroupsDeleted those that were deleted; nil if no relay runs that could say.
	Groups        *int `json:"groups"`
	GroupsDeleted int  `json:"groups_deleted"`
	// Renewed are the serial numbers of the certificates that had been renewed from the one that was named; they are revoked as well.
	Renewed []string `json:"renewed,omitempty"`
	// TokensVoided are the tokens that let nobody in any more. TokensLeft have a prefix that reaches the name: they let others in, and not this one.
	TokensVoided []Token `json:"tokens_voided"`
	TokensLeft   []Token `json:"tokens_left"`
}

// What names what was revoked, for people.
func (r *Revoked) What() string {
	if r.Serial == "" {
		return r.Agent
	}
	return "certificate " + r.Serial + " of " + r.Agent
}

// Allowed is what was lifted.
type Allowed struct {
	Agent  string       `json:"agent"`
	Lifted []Revocation `json:"lifted"`
}

// NewCertificate is one that a command has issued, for the ledger.
type NewCertificate struct {
	// Certificate is the certificate in PEM, without its key.
	Certificate string `json:"certificate"`
}

// Noted is what is told of a certificate that was noted.
type Noted struct {
	// CA are the authorities by which the agent verifies the relay, in PEM; empty if that is the one that issued the certificate.
	CA string `json:"ca,omitempty"`
}

// Nothing is the data of an answer that has none.
type Nothing struct{}
