package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/identity"
	"pushrelay/internal/monotonic"
	"pushrelay/internal/mtls"
)

// EnrollOptions are those of relay-agent enroll.
type EnrollOptions struct {
	// Token is the join token.
	Token string
	// Name is the agent's; empty for the token's, or that of the host.
	Name string
	// Force allows to enrol again at an authority where the agent has an identity that is good, and to move relays from another one.
	Force bool
	// DataDir takes the identity.
	DataDir string
	// RelayProxyURL is as in [Options].
	RelayProxyURL string
	// Patience is how long it is tried again while no relay can be reached, or says later.
	Patience time.Duration
	// Waits is told each time why it is tried again, and when. Nil tells nobody.
	Waits func(err error, wait time.Duration)
}

const (
	// firstWait and the longest ones are between two attempts to enrol; they double.
	firstWait       = 2 * time.Second
	longestWait     = 15 * time.Second // while somebody looks on
	longestAtStart  = time.Minute
	tellEnrolmentIn = 10 * time.Minute // the same reason
)

// Enroll exchanges a join token for an identity in the data dir. It needs no running agent, and stops none.
func Enroll(ctx context.Context, o EnrollOptions) (*identity.Identity, error) {
	token, err := enrol.ParseToken(o.Token)
	if err != nil {
		return nil, err
	}
	if err := checkName("--name", o.Name); err != nil {
		return nil, err
	}
	opts := Options{DataDir: o.DataDir, EnrollName: o.Name, RelayProxyURL: o.RelayProxyURL}
	if o.DataDir == "" {
		return nil, errors.New("--data.dir is empty, and an identity has to be kept")
	}
	for _, address := range token.Addresses {
		if _, err := opts.proxyFor(address); err != nil {
			return nil, err
		}
	}
	present, err := identity.In(o.DataDir).Load()
	if err != nil {
		return nil, fmt.Errorf("--data.dir %s: %w", o.DataDir, err)
	}
	if err := o.refuseOverLive(&token, present); err != nil {
		return nil, err
	}
	join := opts.join(opts.enrolClient(), &token, present)
	for until, wait := time.Now().Add(o.Patience), firstWait; ; wait = min(2*wait, longestWait) {
		id, err := join.Attempt(ctx)
		failed, ok := errors.AsType[*enrolclient.Error](err)
		if !ok || !failed.Later || time.Now().Add(wait).After(until) {
			return id, explainUnkept(explainName(join, err))
		}
		if o.Waits != nil {
			o.Waits(err, wait)
		}
		if !monotonic.Sleep(ctx, wait) {
			return nil, err
		}
	}
}

// refuseOverLive refuses to replace what is good, unless it is asked for.
func (o *EnrollOptions) refuseOverLive(token *enrol.Token, present []*identity.Identity) error {
	if o.Force {
		return nil
	}
	now := time.Now()
	if id := identity.ByAuthority(present, token.CA); id != nil {
		if !id.Ended(now) {
			return fmt.Errorf("this is agent %q of that authority already, with a certificate that is good until %s and that the agent renews by itself: --force enrols it again",
				id.Agent.Agent, id.Certificate.NotAfter.UTC().Format(time.RFC3339))
		}
		return nil
	}
	for _, address := range token.Addresses {
		if id := identity.ByAddress(present, address); id != nil && !id.Ended(now) {
			return fmt.Errorf("relay %s belongs to an identity of this agent at another authority (%s): has the relay begun a new authority? --force moves it to the one of the token", address, id.Dir())
		}
	}
	return nil
}

// explainName adds to a refusal of the name what there is no other for.
func explainName(j *enrolclient.Join, err error) error {
	failed, ok := errors.AsType[*enrolclient.Error](err)
	if ok && failed.Reason == enrol.ReasonName && j.Name == "" && j.Otherwise == "" {
		return fmt.Errorf("%w (the name of this host cannot be an agent's: give another one by --name)", err)
	}
	return err
}

// ErrUnkept means that the data dir could not take what an identity consists of. The key that the relay may have signed stays pending there, or was never
// shown to a relay, so that the token is still good for it.
var ErrUnkept = errors.New("the token still lets this agent in: free space or mend the data dir, and do the same again")

// explainUnkept adds to an error of the data dir that nothing is lost by it.
func explainUnkept(err error) error {
	_, ofPath := errors.AsType[*fs.PathError](err)
	_, ofLink := errors.AsType[*os.LinkError](err)
	if ofPath || ofLink {
		return fmt.Errorf("%w: %w", err, ErrUnkept)
	}
	return err
}

func (o *Options) enrolClient() *enrolclient.Client {
	return enrolclient.New(enrolclient.Config{Proxy: o.proxyFor})
}

// enrolment is what is to be done before the agent begins.
type enrolment struct {
	join *enrolclient.Join
	once bool // the agent has other identities to begin with
	why  atomic.Pointer[string]
}

// checkName returns an error unless a flag names an agent, or nobody.
func checkName(flag, name string) error {
	if name == "" {
		return nil
	}
	if err := mtls.CheckAgentName(name); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// ServeHTTP answers while the agent enrols.
func (e *enrolment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/-/healthy" {
		healthy(w, r)
		return
	}
	reason := "no relay was asked yet"
	if why := e.why.Load(); why != nil {
		reason = *why
	}
	w.Header().Set("Retry-After", "5")
	http.Error(w, "the agent has no identity yet, and takes no pushes: "+reason, http.StatusServiceUnavailable)
}

// enrol enrols the agent, and takes its identities to use. It tries until it is in, or is refused for good.
func (a *Agent) enrol(ctx context.Context) error {
	if dir, err := datadir.Open(a.opts.DataDir, datadir.ChoiceOf(a.opts.DataDirAsked), a.logger); err != nil {
		return err
	} else if dir == "" {
		return fmt.Errorf("an identity cannot be kept in --data.dir %s", a.opts.DataDir)
	}
	told, toldAt := "", time.Time{}
	for wait := firstWait; ; wait = min(2*wait, longestAtStart) {
		id, err := a.enrolment.join.Attempt(ctx)
		if err == nil {
			a.logger.Info("agent enrolled", slog.String("agent", id.Agent.Agent), slog.Time("not_after", id.Certificate.NotAfter), slog.Any("relays", id.Relays))
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed, refused := errors.AsType[*enrolclient.Error](err)
		if a.enrolment.once {
			a.logger.Warn("the agent begins without the relays of the join token, which are asked again at the next start", slog.Any("err", err))
			break
		}
		if err = explainName(a.enrolment.join, err); refused && failed.Final() {
			return fmt.Errorf("enrolling: %w", err)
		}
		pause := wait/2 + rand.N(wait/2)
		text := err.Error()
		a.enrolment.why.Store(&text)
		if text != told || time.Since(toldAt) >= tellEnrolmentIn {
			told, toldAt = text, time.Now()
			a.logger.Warn("the agent could not enrol yet", slog.Any("err", err), slog.Duration("retry_in", pause.Round(time.Millisecond)))
		}
		if !monotonic.Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	present, err := a.enrolment.join.Store.Load()
	if err != nil {
		return err
	}
	return a.useIdentities(present, nil)
}
