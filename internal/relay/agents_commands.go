package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/prometheus/common/version"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/control"
	"pushrelay/internal/enrol"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
)

// A Source says who has answered a command about agents.
type Source string

// The sources.
const (
	// FromRelay is the relay that runs on the data dir, FromFiles what lies there while none runs.
	FromRelay Source = "relay"
	FromFiles Source = "files"
)

// ErrNeedsRelay means that only a running relay can do what was asked.
var ErrNeedsRelay = errors.New("no relay runs on it, and this needs one")

// IsUnwritten says that the ledger could not be written, so that what was asked was not done, and may be when it can.
func IsUnwritten(err error) bool {
	_, unwritten := errors.AsType[*ledger.WriteError](err)
	return unwritten
}

// Agents are the agents of a data dir as commands see them: those of the relay that runs on it, or else what its files say.
type Agents struct {
	// DataDir is the data dir.
	DataDir string
	// NoLock does without the lock on the ledger, as Options.DataDirNoLock does.
	NoLock bool
}

// List returns all agents, sorted by name.
func (a Agents) List(ctx context.Context) ([]relayapi.Agent, Source, error) {
	return a.list(
		func(c *relayapi.Control) ([]relayapi.Agent, error) { return c.Agents(ctx) },
		func(all []relayapi.Agent) []relayapi.Agent { return all })
}

// ListBy returns those that came in by a token, sorted by name, as far as the ledger still has what was issued for it.
func (a Agents) ListBy(ctx context.Context, token string) ([]relayapi.Agent, Source, error) {
	return a.list(
		func(c *relayapi.Control) ([]relayapi.Agent, error) { return c.AgentsBy(ctx, token) },
		func(all []relayapi.Agent) []relayapi.Agent { return control.CameBy(all, token) })
}

func (a Agents) list(ask func(*relayapi.Control) ([]relayapi.Agent, error), choose func([]relayapi.Agent) []relayapi.Agent) ([]relayapi.Agent, Source, error) {
	return ofLedger(a, ask,
		func() ([]relayapi.Agent, error) {
			agents, err := a.read()
			agents = choose(agents)
			for i := range agents {
				agents[i].Certificates = nil
			}
			return agents, err
		})
}

// Show returns one agent with its certificates.
func (a Agents) Show(ctx context.Context, name string) (relayapi.Agent, Source, error) {
	return ofLedger(a,
		func(c *relayapi.Control) (relayapi.Agent, error) { return c.Agent(ctx, name) },
		func() (relayapi.Agent, error) {
			agents, err := a.read()
			if err != nil {
				return relayapi.Agent{}, err
			}
			return control.Find(agents, name)
		})
}

// Revoke throws an agent out, or one certificate of it. Without a running relay its groups cannot be deleted.
func (a Agents) Revoke(ctx context.Context, name string, r relayapi.Revoke) (relayapi.Revoked, Source, error) {
	return ofLedger(a,
		func(c *relayapi.Control) (relayapi.Revoked, error) { return c.Revoke(ctx, name, r) },
		func() (done relayapi.Revoked, err error) {
			if r.DeleteGroups {
				return done, fmt.Errorf("--delete-groups: %w: revoke without it, or start the relay", ErrNeedsRelay)
			}
			err = a.write(func(l *ledger.Ledger) error {
				done, err = control.RevokeIn(l, name, r, 0) // Whose certificates the relay takes, its flags say.
				return err
			})
			return done, err
		})
}

// Allow lifts all revocations of an agent.
func (a Agents) Allow(ctx context.Context, name string) (relayapi.Allowed, Source, error) {
	return ofLedger(a,
		func(c *relayapi.Control) (relayapi.Allowed, error) { return c.Allow(ctx, name) },
		func() (done relayapi.Allowed, err error) {
			err = a.write(func(l *ledger.Ledger) error {
				done, err = control.AllowIn(l, name)
				return err
			})
			return done, err
		})
}

// Forget removes an agent that is away from the list of the running relay.
func (a Agents) Forget(ctx context.Context, name string) error {
	_, _, err := ofLedger(a,
		func(c *relayapi.Control) (relayapi.Nothing, error) { return relayapi.Nothing{}, c.Forget(ctx, name) },
		func() (relayapi.Nothing, error) {
			return relayapi.Nothing{}, fmt.Errorf("%w: while it is stopped, the file agents.json may be removed, with all agents in it", ErrNeedsRelay)
		})
	return err
}

// MakeToken makes a join token. Without a running relay the addresses have to be given.
func (a Agents) MakeToken(ctx context.Context, t relayapi.NewToken) (relayapi.MadeToken, Source, error) {
	return ofLedger(a,
		func(c *relayapi.Control) (relayapi.MadeToken, error) { return c.MakeToken(ctx, t) },
		func() (made relayapi.MadeToken, err error) {
			own, err := issuingAuthority(a.DataDir)
			if err != nil {
				return made, err
			}
			err = a.write(func(l *ledger.Ledger) error {
				made, err = control.MakeTokenIn(l, control.Place{CA: enrol.PinOf(own.CACert().Raw)}, t)
				return err
			})
			return made, err
		})
}

// Tokens returns the join tokens that are neither ended nor void, the oldest first.
func (a Agents) Tokens(ctx context.Context) ([]relayapi.Token, Source, error) {
	return ofLedger(a,
		func(c *relayapi.Control) ([]relayapi.Token, error) { return c.Tokens(ctx) },
		func() ([]relayapi.Token, error) {
			state, err := ledger.Read(a.DataDir)
			if err != nil {
				return nil, err
			}
			return control.TokensIn(state), nil
		})
}

// VoidToken makes a join token let nobody in any more.
func (a Agents) VoidToken(ctx context.Context, id string) (relayapi.Token, Source, error) {
	return ofLedger(a,
		func(c *relayapi.Control) (relayapi.Token, error) { return c.VoidToken(ctx, id) },
		func() (done relayapi.Token, err error) {
			err = a.write(func(l *ledger.Ledger) error {
				done, err = control.VoidTokenIn(l, id)
				return err
			})
			return done, err
		})
}

// note writes a certificate to the ledger that a command has issued.
func (a Agents) note(ctx context.Context, certPEM []byte, cert *x509.Certificate) (relayapi.Noted, error) {
	noted, _, err := ofLedger(a,
		func(c *relayapi.Control) (relayapi.Noted, error) { return c.Note(ctx, certPEM) },
		func() (relayapi.Noted, error) {
			return relayapi.Noted{}, a.write(func(l *ledger.Ledger) error {
				_, err := control.NoteIn(l, cert, ledger.ByCommand)
				return err
			})
		})
	return noted, err
}

// ofLedger is either for what is about the ledger, which is not in the data dir of a member of a cluster.
func ofLedger[T any](a Agents, ask func(*relayapi.Control) (T, error), without func() (T, error)) (T, Source, error) {
	return either(a, ask, func() (T, error) {
		if err := needsMember(a.DataDir); err != nil {
			var none T
			return none, err
		}
		return without()
	})
}

// either asks the relay that runs on the data dir, and does without if none does.
func either[T any](a Agents, ask func(*relayapi.Control) (T, error), without func() (T, error)) (T, Source, error) {
	var none T
	if err := a.check(); err != nil {
		return none, "", err
	}
	client, err := relayapi.NewControl(a.DataDir)
	if err != nil {
		return none, "", err
	}
	answer, err := ask(client)
	if !isAbsent(err) {
		return answer, FromRelay, explainControl(err)
	}
	answer, withoutErr := without()
	if _, locked := errors.AsType[*ledger.LockedError](withoutErr); locked {
		return none, "", fmt.Errorf("--data.dir %s: a relay runs on it that cannot be told (%w), and its ledger cannot be written beside it: %w. The relay's log says at its start why there is no control socket", a.DataDir, err, withoutErr)
	}
	if withoutErr != nil {
		withoutErr = fmt.Errorf("--data.dir %s: %w", a.DataDir, withoutErr)
	}
	return answer, FromFiles, withoutErr
}

// explainControl adds to an error of the control socket what its reader can do.
func explainControl(err error) error {
	if errors.Is(err, apiclient.ErrUnreachable) && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: only root and the relay's user may do that", err)
	}
	return err
}

// isAbsent says that nobody listens at the control socket, or that there cannot be one: its path is too long.
func isAbsent(err error) bool {
	if !errors.Is(err, apiclient.ErrUnreachable) {
		return false
	}
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EINVAL)
}

// check refuses a data dir that is no relay's, so that nothing is made in one that is mistyped, and one that somebody else has led elsewhere.
func (a Agents) check() error {
	if a.DataDir == "" {
		return errors.New("--data.dir is empty: give that of the relay; one that keeps nothing has no ledger, so that no token can be made there and nobody can be revoked")
	}
	for _, used := range []string{filepath.Join(a.DataDir, relayapi.ControlSocket), agentsFile(a.DataDir)} { // the ledger is read through no link
		if err := fileowner.CheckLinks(used); err != nil {
			return fmt.Errorf("--data.dir %s: %w", a.DataDir, err)
		}
	}
	if !wasUsed(a.DataDir) && !ledger.Exists(a.DataDir) && !a.has(relayapi.ControlSocket) && !a.has(filepath.Join("authority", "ca.crt")) && !a.has(filepath.Join("cluster", "member.json")) {
		return fmt.Errorf("--data.dir %s is not that of a relay, no relay has run on it: give the relay's, such as --data.dir=/var/lib/pushrelay", a.DataDir)
	}
	return nil
}

// has reports whether there is a file of the data dir.
func (a Agents) has(file string) bool {
	_, err := os.Stat(filepath.Join(a.DataDir, file))
	return err == nil
}

// read returns what the files say.
func (a Agents) read() ([]relayapi.Agent, error) {
	issued, err := ledger.Read(a.DataDir)
	if err != nil {
		return nil, err
	}
	known, err := roster.Read(agentsFile(a.DataDir))
	if err != nil {
		return nil, err
	}
	for i := range known {
		known[i].Connected = false
	}
	return control.Join(known, issued.Agents()), nil
}

// needsMember refuses the data dir of a member of a cluster on which no relay runs: what is in it may be old, and its cluster would not hear of what is
// written there.
func needsMember(dataDir string) error {
	d, err := membership.Open(dataDir, version.Version)
	if err != nil || d == nil {
		return err
	}
	return fmt.Errorf("it is that of member %q of a cluster; %w: start it, or ask on another member", d.Member().Name, ErrNeedsRelay)
}

// write opens the ledger for one change.
func (a Agents) write(change func(*ledger.Ledger) error) error {
	l, err := ledger.Open(ledger.Config{Dir: a.DataDir, Release: version.Version, NoLock: a.NoLock})
	if err != nil {
		return err
	}
	return errors.Join(change(l), l.Close())
}
