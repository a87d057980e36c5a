// Package tunnelclient is the agent's end of the tunnel: it dials a relay, keeps a session, answers the relay's scrapes
// from a scrape.Scraper and carries to it what the spool has for it.
//
// Nothing ever dials the agent: all that the relay wants arrives on the connection that [Link.Run] opened. The package
// knows no configuration file. Start reading at [Link].
package tunnelclient

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/scrape"
	"pushrelay/internal/spool"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel"
)

// Config is what a [Link] works with. All fields are required unless they say otherwise.
type Config struct {
	// Address is the relay's, host:port.
	Address string
	// Proxy is an HTTP proxy that is asked to CONNECT to the relay; nil for none.
	Proxy *url.URL
	// Dial opens the connections, to the relay or to its proxy; nil dials the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Resolve finds the addresses of the relay's name, or of its proxy's, for an attempt that is to begin with another one
	// than the last. Nil asks the system, or leaves names to a Dial that is given.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Certificates are the agent's.
	Certificates *mtls.Reloader
	// Expired is told when the certificate is found to be outside its validity, by this machine's clock or by the relay's. It must not wait. Nil tells nobody.
	Expired func()
	// AskRevoked asks the relay, apart from the tunnel, whether the certificate is revoked, and returns its words: what a refused handshake says may mean
	// other things, too. Nil asks nobody.
	AskRevoked func(ctx context.Context) (reason string, revoked bool)
	// Scraper answers the relay's scrapes.
	Scraper scrape.Scraper
	// Spool has the changes of groups; nil for an agent that only scrapes.
	Spool *spool.Spool
	// MaxConcurrentScrapes bounds the scrapes at once, whatever the relay asks for.
	MaxConcurrentScrapes int
	// Process is the same for all links of this process and for no other process.
	Process *Process
	// Version is the agent's, for people.
	Version string
	Logger  *slog.Logger
	Metrics *Metrics
}

// Process is what relays know a process of an agent by, and which of its attempts to attach came later. It is safe for concurrent use.
type Process struct {
	id       [16]byte
	attempts atomic.Uint64 // to attach, to any relay
}

// NewProcess returns a process with a random id.
func NewProcess() *Process {
	p := &Process{}
	rand.Read(p.id[:])
	return p
}

// Link keeps a session with one relay. It is safe for concurrent use.
type Link struct {
	cfg       Config
	addresses addresses      // owned by Run
	pace      pace           // owned by Run
	sessions  sync.WaitGroup // owned by Run; those that serve, or have handed over and are not over yet
	revoked   said           // owned by Run; what the relay said when it was asked
	dialNow   chan struct{}  // one slot; ends a wait for the next attempt
	complains sync.Once      // of a relay that asks for what cannot be meant
	denials   *rate.Limiter  // of lines about targets that the relay does not list
	lifeless  sync.Once      // tells of a relay that does not take what pushes say of their groups' lives

	mu      sync.Mutex
	current *session   // guarded by mu; nil while not attached
	targets target.Set // guarded by mu
	version uint64     // guarded by mu; of the targets, 0 before they were set
	status  Status     // guarded by mu

	saidDenied tunnel.Denied // guarded by mu; what the log has
}

// said is that a relay calls a certificate revoked; zero if it has not.
type said struct {
	certificate *mtls.Material
	reason      string
}

// Status says how a link is.
type Status struct {
	// Address is the relay's.
	Address string
	// Connected says that a session is open; Since is from when on that is so, or not so.
	Connected bool
	Since     time.Time
	// RoundTrip is the last measured; 0 before the first measurement of a session.
	RoundTrip time.Duration
	// RelayVersion is that of the relay of the last session.
	RelayVersion string
	// LastError is why the last session ended, or could not begin; empty if there was none.
	LastError string
	// Denied are the targets that the relay does not list; none without a session.
	Denied tunnel.Denied
	// Revoked says that the relay has thrown the agent out, by its own word, and has not let it in since.
	Revoked bool
}

// NewLink returns a link. It starts nothing.
func NewLink(cfg Config) *Link {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Control: boundUnsent, Timeout: dialTimeout}).DialContext
		if cfg.Resolve == nil {
			cfg.Resolve = systemResolve
		}
	}
	l := &Link{
		cfg: cfg, dialNow: make(chan struct{}, 1), denials: rate.NewLimiter(rate.Every(time.Minute), 5), addresses: addresses{dial: cfg.Dial, resolve: cfg.Resolve},
		status: Status{Address: cfg.Address, Since: time.Now()},
	}
	cfg.Metrics.watch(l)
	return l
}

// Address returns the relay's address.
func (l *Link) Address() string { return l.cfg.Address }

// Status returns how the link is now.
func (l *Link) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.status
	if l.current != nil {
		st.RoundTrip = time.Duration(l.current.roundTrip.Load())
	}
	return st
}

// SetTargets announces what the agent can scrape, now and in every later session. Before the first call nothing is
// announced, and the relay keeps what it knows.
func (l *Link) SetTargets(targets target.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.targets, l.version = targets, l.version+1
	if l.current != nil {
		l.current.announce(targets)
	}
}

// Run keeps a session until ctx ends. It returns nil: what goes wrong is retried, logged, and told by Status.
func (l *Link) Run(ctx context.Context) error {
	defer l.sessions.Wait()
	limit := tunnel.BackoffBase
	for {
		startedAt := time.Now()
		l.pace.begin(startedAt)
		a := newAttempt(ctx)
		s, err := l.open(ctx, a)
		spent := a.silence() // of the time to the next attempt
		a.close()
		remote := a.remote()
		if remote != "" {
			l.addresses.failed = err != nil
		}
		if err != nil {
			err = l.askRevoked(ctx, err)
			l.setStatus(err)
			l.cfg.Metrics.attachFailed(l.cfg.Address)
		} else {
			l.revoked = said{}
			err = l.serve(ctx, s)
			spent = 0
			if time.Since(startedAt) >= tunnel.StableSession {
				limit = tunnel.BackoffBase
			}
		}
		if ctx.Err() != nil {
			return nil // the session ended because the agent does
		}
		if l.cfg.Expired != nil && isExpired(err) {
			l.cfg.Expired()
		}
		// A machine that stood still may have spent more than there was.
		wait := max(l.backoff(min(limit, max(tunnel.BackoffCap-spent, tunnel.BackoffBase)), err), l.pace.left(time.Now()))
		limit = min(2*limit, tunnel.BackoffCap)
		l.cfg.Logger.Warn("no session with the relay", slog.String("addr", l.cfg.Address), slog.String("remote_addr", remote), slog.Any("err", err), slog.Duration("retry_in", wait.Round(time.Millisecond)))
		if !l.rest(ctx, wait) {
			return nil
		}
	}
}

// rest waits before the next attempt, and reports whether there is to be one. Another certificate ends a long wait: it may be the one that is let in. So does
// DialNow.
func (l *Link) rest(ctx context.Context, wait time.Duration) bool {
	used := l.cfg.Certificates.Material()
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 || left > lookAgain && l.cfg.Certificates.Material() != used {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-l.dialNow:
			return true
		case <-time.After(min(left, lookAgain)):
		}
	}
}

// lookAgain is how often it is looked for another certificate.
const lookAgain = 15 * time.Second

// backoff is a random part of the limit, so that agents that lost the relay together do not come back together. It is
// never less than what the relay asked for, within bounds.
func (l *Link) backoff(limit time.Duration, err error) time.Duration {
	wait := time.Duration(mathrand.Int64N(int64(limit)))
	if isThrownOut(err) {
		return enrol.RevokedWait + time.Duration(mathrand.Int64N(int64(enrol.RevokedSpread)))
	}
	ended, ok := errors.AsType[*endedError](err)
	if !ok {
		return wait
	}
	if ended.end.GetReason() == relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED {
		// Whoever has the session now keeps it for a while: two processes with one identity shall not take it from each
		// other all the time.
		wait = tunnel.SupersededWait + time.Duration(mathrand.Int64N(int64(tunnel.SupersededSpread)))
	}
	asked, err := tunnel.SessionDelay(ended.end)
	if err != nil {
		l.complain(err)
	}
	return wait + asked
}

// isThrownOut says that the relay refuses the agent's certificate until somebody does something about it.
func isThrownOut(err error) bool {
	refused, ok := errors.AsType[*mtls.RefusedError](err)
	return isRevoked(err) || ok && refused.Lasting
}

// isRevoked says that the relay calls the agent, or its certificate, revoked. In a handshake it cannot: what it says there may mean other things, too, which
// is why it is asked.
func isRevoked(err error) bool {
	if refused, ok := errors.AsType[*mtls.RefusedError](err); ok {
		return refused.Revoked
	}
	ended, ok := errors.AsType[*endedError](err)
	return ok && ended.end.GetReason() == relayv1.SessionEndReason_SESSION_END_REASON_REVOKED
}

// askRevoked returns the relay's word that the agent is revoked in the place of a refusal that may mean that or something else. Once it has been said of a
// certificate it is not asked again. It is called by Run.
func (l *Link) askRevoked(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*mtls.RefusedError](err)
	if !ok || !refused.Lasting || refused.Revoked || l.cfg.AskRevoked == nil {
		return err
	}
	if m := l.cfg.Certificates.Material(); m != l.revoked.certificate {
		reason, revoked := l.cfg.AskRevoked(ctx)
		if !revoked {
			return err
		}
		l.revoked = said{m, reason}
	}
	return &mtls.RefusedError{Reason: l.revoked.reason, Lasting: true, Revoked: true, Err: err}
}

// isExpired says that the certificate is outside its validity, by the relay's clock or by this machine's.
func isExpired(err error) bool {
	if refused, ok := errors.AsType[*mtls.RefusedError](err); ok {
		return refused.Expired
	}
	if _, own := errors.AsType[*mtls.ValidityError](err); own {
		return true
	}
	ended, ok := errors.AsType[*endedError](err)
	return ok && ended.end.GetReason() == relayv1.SessionEndReason_SESSION_END_REASON_CERTIFICATE_EXPIRED
}

// complain says once that the relay asks for what it cannot mean.
func (l *Link) complain(err error) {
	l.complains.Do(func() {
		l.cfg.Logger.Warn("the relay breaks the protocol; this is said once", slog.String("addr", l.cfg.Address), slog.Any("err", err))
	})
}

// tellOfLife says once that what a push says of its group's life is left out.
func (l *Link) tellOfLife() {
	l.lifeless.Do(func() {
		l.cfg.Logger.Warn("the relay is of a release that knows no lives of groups: pushes reach it without what they say of TTL, schedule and failure; this is said once", slog.String("addr", l.cfg.Address))
	})
}

// begin makes a session the one that serves.
func (l *Link) begin(s *session) {
	l.mu.Lock()
	takesOver := l.current != nil
	l.current = s
	if !takesOver {
		l.status.Connected, l.status.Since = true, time.Now()
	}
	l.status.LastError, l.status.Revoked = "", false
	l.status.RelayVersion = tunnel.Version(s.welcome.GetRelayVersion())
	if l.version != s.toldTargets {
		s.announce(l.targets)
	}
	l.mu.Unlock()
	l.cfg.Metrics.attached(l.cfg.Address)
	logger := l.cfg.Logger.With(slog.String("addr", l.cfg.Address), slog.Uint64("session", s.welcome.GetSession()), slog.String("version", tunnel.Version(s.welcome.GetRelayVersion())))
	if takesOver {
		logger.Info("session goes on with another certificate")
		return
	}
	logger.Info("attached to relay")
}

func (l *Link) setStatus(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.Connected {
		l.status.Connected, l.status.Since = false, time.Now()
	}
	l.status.Denied = tunnel.Denied{}
	l.status.LastError = err.Error()
	l.status.Revoked = l.status.Revoked || isRevoked(err)
	if l.cfg.Spool != nil {
		l.cfg.Spool.Away(l.cfg.Address, l.status.LastError)
	}
}

// announcedTargets returns what the agent can scrape and the version of it, 0 before the targets were set.
func (l *Link) announcedTargets() (target.Set, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.targets, l.version
}

// endedError is a session that the relay ended with a reason.
type endedError struct {
	end *relayv1.SessionEnd
}

// Error returns the relay's message.
func (e *endedError) Error() string {
	if by := e.end.GetSupersededBy(); by != "" {
		return fmt.Sprintf("relay ended the session: %s: is a second agent running with the same certificate?", tunnel.Text(e.end.GetMessage()))
	}
	return "relay ended the session: " + tunnel.Text(e.end.GetMessage())
}
