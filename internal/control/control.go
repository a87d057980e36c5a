// Package control is what the relay does to agents when its operator says so: make tokens that let them in, list them, throw them out, let them in
// again, forget them, and note the certificates that are issued to them (I1, I8, I9).
//
// It promises that a revocation is done when it returns: it is on the disk, the sessions are ended, and nothing that they had in flight is
// applied. It is served on a Unix socket in the data dir and nowhere else, since whoever may connect there may do all of it; who that is says
// the mode of the socket. Start reading at [Control.Revoke].
package control

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
)

// Registry is what is needed of roster.Registry.
type Registry interface {
	// Agents returns what is known of every agent, sorted by name.
	Agents() []roster.Agent
	// Known reports whether the name is that of a known agent.
	Known(name string) bool
	// CheckName returns a *roster.TakenError if the name is that of an agent of another trust domain.
	CheckName(name, trustDomain string) error
	// Forget removes a departed agent.
	Forget(name string) error
	// EndRevoked ends the sessions of all certificates that are revoked by now.
	EndRevoked() int
	// Unlist removes the targets of an agent that is not connected.
	Unlist(name string) int
}

// Accounts is what is needed of a store.
type Accounts interface {
	// Account returns how many groups and series an agent has. It waits for a change that is taking effect.
	Account(agent string) (groups, series int)
}

// Config is what a [Control] works with. All fields are required unless they say otherwise.
type Config struct {
	Ledger   *ledger.Ledger
	Registry Registry
	Accounts Accounts
	// DeleteGroups deletes the groups of an agent, and says how many.
	DeleteGroups func(ctx context.Context, agent string) (relayapi.Deletion, error)
	// CheckIssued returns an error unless the relay's own authority issued the certificate. Nil for a relay that uses none: whatever a command says
	// that it has issued is noted then.
	CheckIssued func(cert *x509.Certificate) error
	// LongestLife is how long a certificate lives at most that the relay takes, from when it is issued; 0 if nobody knows, as with an authority of
	// somebody else.
	LongestLife time.Duration
	// CAPEM returns the authorities by which agents verify the relay, in PEM. Nil if that is the relay's own one.
	CAPEM func() []byte
	// Place says where agents find this relay, or why no token can be made.
	Place func() (Place, error)
	// Explain says what the policy allows; see Explainer.
	Explain func(relayapi.Explain) (relayapi.Explained, error)
	Logger  *slog.Logger
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
}

// Control does what the relay's operator says. It is safe for concurrent use.
type Control struct {
	cfg     Config
	metrics *metrics
}

// New returns a control. It starts nothing.
func New(cfg Config) *Control {
	return &Control{cfg: cfg, metrics: newMetrics(cfg.Registerer, cfg.Ledger)}
}

// Agents returns all agents that the registry or the ledger knows.
func (c *Control) Agents() []relayapi.Agent { return c.listed(c.all()) }

// AgentsBy returns those that came in by a token, as far as the ledger still has what was issued for it.
func (c *Control) AgentsBy(token string) []relayapi.Agent { return c.listed(CameBy(c.all(), token)) }

func (c *Control) all() []relayapi.Agent {
	return Join(c.cfg.Registry.Agents(), c.cfg.Ledger.Agents())
}

// listed returns agents as a list has them.
func (c *Control) listed(agents []relayapi.Agent) []relayapi.Agent {
	for i := range agents {
		c.account(&agents[i])
		agents[i].Certificates = nil
	}
	return agents
}

// Agent returns one of them, with its certificates. The error is [roster.ErrUnknown] if there is none.
func (c *Control) Agent(name string) (relayapi.Agent, error) {
	a, err := Find(c.all(), name)
	if err == nil {
		c.account(&a)
	}
	return a, err
}

func (c *Control) account(a *relayapi.Agent) {
	groups, series := c.cfg.Accounts.Account(a.Agent)
	a.Groups, a.Series = &groups, &series
}

// Revoke throws an agent out, or one certificate of it. If only the deletion of its groups fails, what was revoked stays so, and what was done
// is returned beside the error.
func (c *Control) Revoke(ctx context.Context, name string, r relayapi.Revoke) (relayapi.Revoked, error) {
	done, err := RevokeIn(c.cfg.Ledger, name, r, c.cfg.LongestLife)
	if done.Agent == "" {
		return done, err
	}
	tokensErr := err // what is revoked is revoked all the same
	done.Known = done.Known || r.Serial == "" && c.cfg.Registry.Known(name)
	done.SessionsEnded = c.cfg.Registry.EndRevoked()
	// From here on nothing begins, and no session is current any more. A change that the store asked about before is decided once the store can be asked
	// for the account.
	groups, _ := c.cfg.Accounts.Account(name)
	done.Groups = &groups
	if r.Serial == "" && !r.KeepTargets {
		done.TargetsRemoved = c.cfg.Registry.Unlist(name)
	}
	c.cfg.Logger.Warn("agent revoked", slog.String("audit", "revoked"), slog.String("agent", name), slog.String("serial", done.Serial),
		slog.Int("tokens_voided", len(done.TokensVoided)), slog.Int("sessions_ended", done.SessionsEnded), slog.Int("targets_removed", done.TargetsRemoved), slog.Bool("delete_groups", r.DeleteGroups))
	if tokensErr != nil || !r.DeleteGroups {
		return done, tokensErr
	}
	deleted, err := c.cfg.DeleteGroups(ctx, name)
	done.GroupsDeleted = deleted.Deleted
	groups, _ = c.cfg.Accounts.Account(name)
	if err != nil {
		return done, &groupsLeftError{fmt.Errorf("%s is revoked, and not all of its groups are deleted: %w; ask again", name, err)}
	}
	return done, nil
}

// Enforce does what revocations want that another relay of a cluster has made: it ends the sessions of what is refused by now, and removes the targets.
func (c *Control) Enforce() {
	ended := c.cfg.Registry.EndRevoked()
	c.UnlistRevoked()
	if ended > 0 {
		c.cfg.Logger.Warn("agents were revoked on another relay", slog.String("audit", "revoked_elsewhere"), slog.Int("sessions_ended", ended))
	}
}

// UnlistRevoked removes the targets of agents that are revoked and away, as when their names were revoked while no relay ran. One that has another
// certificate since is left alone.
func (c *Control) UnlistRevoked() {
	for _, known := range c.cfg.Registry.Agents() {
		has, _ := c.cfg.Ledger.Agent(known.Name)
		if has.Revoked == nil || has.Revoked.KeepTargets {
			continue
		}
		if _, refused := c.cfg.Ledger.Refuses(known.Name, known.CertificateSerial); refused {
			c.cfg.Registry.Unlist(known.Name)
		}
	}
}

// A groupsLeftError says that an agent is revoked and that groups of it are left.
type groupsLeftError struct{ err error }

func (e *groupsLeftError) Error() string { return e.err.Error() }
func (e *groupsLeftError) Unwrap() error { return e.err }

// Allow lifts all revocations of an agent.
func (c *Control) Allow(name string) (relayapi.Allowed, error) {
	done, err := AllowIn(c.cfg.Ledger, name)
	if err == nil {
		c.cfg.Logger.Warn("agent allowed again", slog.String("audit", "allowed"), slog.String("agent", name), slog.Int("revocations", len(done.Lifted)))
	}
	return done, err
}

// Forget removes an agent that is away, and its targets. What the ledger has of it stays.
func (c *Control) Forget(name string) error {
	err := c.cfg.Registry.Forget(name)
	if err == nil {
		c.cfg.Logger.Info("agent forgotten", slog.String("audit", "forgotten"), slog.String("agent", name))
	}
	if errors.Is(err, roster.ErrUnknown) {
		return c.explainUnseen(name, err)
	}
	return err
}

// explainUnseen says of an agent that is listed, and that nothing is known of but what the ledger has, why it is.
func (c *Control) explainUnseen(name string, unknown error) error {
	switch of, found := c.cfg.Ledger.Agent(name); {
	case !found:
		return unknown
	case len(of.Certificates) > 0:
		return &stateError{fmt.Errorf("%s is not here, so that there is nothing to forget: it is listed for the certificates that were issued to it, until they can be renewed no more (relay-server agents revoke %s refuses them)", name, name)}
	default:
		return &stateError{fmt.Errorf("%s is not here, so that there is nothing to forget: it is listed because it is revoked, which forget leaves as it is (relay-server agents allow %s lifts that)", name, name)}
	}
}

// Note writes a certificate to the ledger before it is handed out.
func (c *Control) Note(certPEM []byte, by ledger.Way) (relayapi.Noted, error) {
	certs, err := mtls.ParseCertificates(certPEM)
	if err != nil {
		return relayapi.Noted{}, &requestError{fmt.Errorf("noting a certificate: %w", err)}
	}
	if err := c.checkIssued(certs[0]); err != nil {
		return relayapi.Noted{}, err
	}
	issued, err := NoteIn(c.cfg.Ledger, certs[0], by)
	if err != nil {
		return relayapi.Noted{}, err
	}
	c.Issued(issued)
	var noted relayapi.Noted
	if c.cfg.CAPEM != nil {
		noted.CA = string(c.cfg.CAPEM())
	}
	return noted, nil
}

// checkIssued returns an error unless the relay's own authority issued the certificate, for a name that it may have.
func (c *Control) checkIssued(cert *x509.Certificate) error {
	if c.cfg.CheckIssued == nil {
		return nil
	}
	if err := c.cfg.CheckIssued(cert); err != nil {
		return &requestError{fmt.Errorf("noting a certificate: %w", err)}
	}
	id, err := mtls.PeerIDFromCertificate(cert)
	if err != nil {
		return &requestError{fmt.Errorf("noting a certificate: %w", err)}
	}
	return c.cfg.Registry.CheckName(id.Agent, id.TrustDomain)
}
