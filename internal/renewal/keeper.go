// Package renewal keeps an agent's certificates valid without anybody: it has each identity renewed over a live session from half of the certificate's
// life on, and after an absence in which it ended by the way of enrolment (I4, I5).
//
// It writes only identities, never files that were given by flags. What fails is tried again, a little later each time, and told in the log now and
// then, in metrics and in the status. It knows no connection: sessions are an interface. Start reading at [Keeper].
package renewal

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
)

const (
	// spreadShare is which part of its life a certificate is renewed later at most than it could be, so that a fleet that enrolled together does not renew
	// together.
	spreadShare = 10
	// firstRetry and lastRetry bound the wait after a failure, which doubles. It is never more than retryShare of the certificate's life.
	firstRetry = time.Minute
	lastRetry  = time.Hour
	retryShare = 20
	// lookAgain is how often it is looked whether files or clock are others.
	lookAgain = 10 * time.Minute
	// tellAgain is after how long a failure is logged again that was logged before.
	tellAgain = 24 * time.Hour
)

// Advice is what a person does about a certificate of an identity that ends, or has ended.
const Advice = "the agent renews it by itself as soon as it reaches a relay that can: relay-agent status says why it could not yet, and a relay of an earlier release cannot." +
	" If it has ended for too long: relay-server agents token NAME on the relay, then relay-agent enroll TOKEN"

// A Session is the way to one relay. It is implemented by tunnelclient.Link.
type Session interface {
	// IsOpen says whether there is a session.
	IsOpen() bool
	// Renew asks the relay for the next certificate over the session that is open. What comes to nothing is an [*enrol.Refusal] if there is a word for it:
	// cannot_sign where the relay renews none, later where there is no session any more.
	Renew(ctx context.Context, request []byte) (*relayv1.IssuedCertificate, error)
	// DialNow ends a wait for the next attempt at a session.
	DialNow()
	// Revoked says that a relay has refused to renew because the agent is revoked.
	Revoked()
}

// Config is what a [Keeper] works with. All fields are required unless they say otherwise.
type Config struct {
	// Identity is what is renewed, Certificates its files.
	Identity     *identity.Identity
	Certificates *mtls.Reloader
	// Client asks Relays after the certificate has ended.
	Client *enrolclient.Client
	Relays []string
	// Join is what is left when relays refuse that for good: a token; nil for none.
	Join    *enrolclient.Join
	Metrics *Metrics
	Logger  *slog.Logger
}

// Keeper keeps the certificate of one identity valid. It is safe for concurrent use.
type Keeper struct {
	cfg     Config
	expired chan struct{} // one slot: a relay calls the certificate expired

	// Owned by Run.
	id       *identity.Identity
	refused  *mtls.Material // what a relay called expired
	failures int            // in succession
	retryAt  time.Time      // when it may be tried again
	told     string         // the failure that was logged last
	toldAt   time.Time

	mu     sync.Mutex
	status Status         // guarded by mu
	about  *mtls.Material // guarded by mu; what it was tried to renew last
}

// Status is how the renewal of an identity is.
type Status struct {
	// Authority is the identity's.
	Authority enrol.Pin
	// NotAfter is when the certificate in use ends, and Due from when on it is renewed.
	NotAfter, Due time.Time
	// LastError is why it could not be renewed when it was tried last, at LastAttempt; empty if it could, or was not tried.
	LastError   string
	LastAttempt time.Time
	// Revoked says that a relay refused to renew because the agent is revoked.
	Revoked bool
}

// New returns a keeper. It starts nothing.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, id: cfg.Identity, expired: make(chan struct{}, 1), status: Status{Authority: cfg.Identity.Authority}}
}

// Status returns how the renewal is now.
func (k *Keeper) Status() Status {
	m := k.cfg.Certificates.Material()
	k.mu.Lock()
	defer k.mu.Unlock()
	st := k.status
	if k.about != m { // somebody else saw to it
		st.LastError, st.Revoked = "", false
	}
	st.NotAfter, st.Due = m.NotAfter(), due(m)
	return st
}

// Expired says that a relay refuses the certificate in use as expired, whatever this machine's clock says. It never waits.
func (k *Keeper) Expired() {
	select {
	case k.expired <- struct{}{}:
	default:
	}
}

// due returns when a certificate is renewed: at a moment of its own after half of its life, the same over restarts.
func due(m *mtls.Material) time.Time {
	leaf := m.Leaf()
	sum := sha256.Sum256(leaf.Raw)
	share := float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
	return enrol.RenewFrom(leaf.NotBefore, leaf.NotAfter).Add(time.Duration(share * float64(lifeOf(m)/spreadShare)))
}

// lifeOf is how long a certificate lives from when it was issued.
func lifeOf(m *mtls.Material) time.Duration {
	half := m.NotAfter().Sub(enrol.RenewFrom(m.Leaf().NotBefore, m.NotAfter()))
	return 2 * half
}

// Run renews until ctx ends. It returns nil.
func (k *Keeper) Run(ctx context.Context, sessions []Session) error {
	for {
		m := k.cfg.Certificates.Material()
		late := time.Now().After(m.NotAfter()) || k.refused == m
		next := time.Until(due(m))
		if late {
			next = 0
		}
		if next = max(next, time.Until(k.retryAt)); next <= 0 {
			k.retryAt = time.Now().Add(k.attempt(ctx, m, late, sessions))
			next = 0
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.expired:
			if k.refused != m && k.cfg.Certificates.Material() == m {
				k.refused, k.retryAt = m, time.Time{}
			}
		case <-time.After(min(next, lookAgain)): // sooner than it is due, since clock and files may be others by then
		}
	}
}

// attempt tries once to renew, and returns how long to wait after it.
func (k *Keeper) attempt(ctx context.Context, m *mtls.Material, late bool, sessions []Session) (wait time.Duration) {
	result, err := k.renew(ctx, m, late, sessions)
	if ctx.Err() != nil {
		return 0
	}
	k.cfg.Metrics.renewals.WithLabelValues(result).Inc()
	revoked := result == string(enrol.ReasonRevoked)
	k.mu.Lock()
	k.about, k.status.LastAttempt, k.status.LastError, k.status.Revoked = m, time.Now(), "", revoked
	if err != nil {
		k.status.LastError = err.Error()
	}
	k.mu.Unlock()
	if err == nil {
		k.failures, k.told = 0, ""
		k.cfg.Logger.Info("certificate renewed", slog.String("agent", k.id.Agent.Agent), slog.String("by", result), slog.Time("not_after", k.id.Certificate.NotAfter))
		if late {
			for _, s := range sessions {
				s.DialNow()
			}
		}
		return 0
	}
	wait = k.backoff(m)
	switch clock, _ := errors.AsType[*identity.ClockError](err); {
	case revoked:
		for _, s := range sessions {
			s.Revoked()
		}
		wait = enrol.RevokedWait + rand.N(enrol.RevokedSpread)
	case clock != nil:
		wait = lastRetry // each attempt has a certificate issued
	}
	k.tell(err, wait)
	return wait
}

// backoff returns the wait after a failure.
func (k *Keeper) backoff(m *mtls.Material) time.Duration {
	limit := max(firstRetry, min(lastRetry, lifeOf(m)/retryShare))
	wait := min(limit, firstRetry<<min(k.failures, 10))
	k.failures++
	return wait/2 + rand.N(wait/2+1)
}

// tell logs a failure that is another one than the last, or that was not logged for a day.
func (k *Keeper) tell(err error, wait time.Duration) {
	if err.Error() == k.told && time.Since(k.toldAt) < tellAgain {
		return
	}
	k.told, k.toldAt = err.Error(), time.Now()
	k.cfg.Logger.Warn("certificate could not be renewed yet; this is said when the reason changes, or once a day",
		slog.Any("err", err), slog.Time("not_after", k.id.Certificate.NotAfter), slog.Duration("retry_in", wait.Round(time.Second)))
}

// renew renews, and returns the result as metrics count it.
func (k *Keeper) renew(ctx context.Context, m *mtls.Material, late bool, sessions []Session) (result string, err error) {
	if !late {
		sessions = slices.DeleteFunc(slices.Clone(sessions), func(s Session) bool { return !s.IsOpen() })
		if len(sessions) == 0 {
			return resultOf(errNoSession), errNoSession
		}
	}
	key, err := identity.NewKey()
	if err != nil {
		return resultFailed, err
	}
	request, err := identity.Request(key)
	if err != nil {
		return resultFailed, err
	}
	if late {
		return k.renewLate(ctx, m, key, request)
	}
	issued, err := overSessions(ctx, sessions, request)
	if err != nil {
		return resultOf(err), err
	}
	return k.take(resultRenewed, issued, key)
}

// take checks and writes what was issued.
func (k *Keeper) take(result string, issued *relayv1.IssuedCertificate, key crypto.Signer) (string, error) {
	id, err := k.id.Again() // somebody may have enrolled the agent again
	if err != nil {
		return resultFailed, err
	}
	checked, err := id.CheckNext(issued, key)
	if err != nil {
		return resultFailed, err
	}
	if id, err = id.Renew(checked); err != nil {
		return resultFailed, err
	}
	return k.use(result, id)
}

// use puts to use what was written.
func (k *Keeper) use(result string, id *identity.Identity) (string, error) {
	k.id = id
	if m := k.cfg.Certificates.Look(); !m.Leaf().Equal(id.Certificate) {
		return resultFailed, fmt.Errorf("the renewed certificate is written and not in use: %w", k.cfg.Certificates.Status().Err)
	}
	return result, nil
}

// renewLate renews by the way of enrolment, and where that is refused for good by a token if there is one.
func (k *Keeper) renewLate(ctx context.Context, m *mtls.Material, key crypto.Signer, request []byte) (string, error) {
	issued, err := k.cfg.Client.RenewLate(ctx, k.cfg.Relays, m, request)
	if err == nil {
		return k.take(resultLate, issued, key)
	}
	failed, ok := errors.AsType[*enrolclient.Error](err)
	if !ok || !failed.Final() {
		return resultOf(err), err
	}
	if k.cfg.Join == nil {
		return resultOf(err), fmt.Errorf("%w: on the relay's machine relay-server agents token %s, and here relay-agent enroll TOKEN", err, k.id.Agent.Agent)
	}
	id, joinErr := k.cfg.Join.Attempt(ctx)
	if joinErr != nil {
		return resultOf(err), fmt.Errorf("%w; and the join token: %w", err, joinErr)
	}
	return k.use(resultEnrolled, id)
}

var errNoSession = &enrol.Refusal{Reason: enrol.ReasonLater, Message: "there is no session with a relay of its authority"}

// overSessions asks relays with a session for the next certificate, one after the other until one signs.
func overSessions(ctx context.Context, sessions []Session, request []byte) (*relayv1.IssuedCertificate, error) {
	var first error
	var texts []string
	for _, s := range sessions {
		attempt, cancel := context.WithTimeout(ctx, enrol.AttemptTimeout)
		issued, err := s.Renew(attempt, request)
		cancel()
		if err == nil {
			return issued, nil
		}
		texts = append(texts, err.Error())
		if refused, ok := errors.AsType[*enrol.Refusal](err); ok && refused.Reason == enrol.ReasonRevoked {
			return nil, err
		}
		if first == nil || isAway(first) {
			first = err
		}
	}
	return nil, &sessionsError{text: strings.Join(texts, "; "), err: first}
}

// isAway says that there was nobody to ask: any other reason says more.
func isAway(err error) bool {
	refused, ok := errors.AsType[*enrol.Refusal](err)
	return ok && refused.Reason == enrol.ReasonLater
}

// sessionsError is what all relays said, and the one reason that counts.
type sessionsError struct {
	text string
	err  error
}

// Error returns what all relays said.
func (e *sessionsError) Error() string { return e.text }

// Unwrap returns the reason that counts.
func (e *sessionsError) Unwrap() error { return e.err }
