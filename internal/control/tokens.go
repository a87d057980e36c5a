package control

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
)

// Bounds of a token.
const (
	shortestTTL, longestTTL = time.Minute, 366 * 24 * time.Hour
	mostUses                = 1_000_000
)

// A Place is where agents find the relay.
type Place struct {
	// CA is the pin of the CA by which agents verify it.
	CA enrol.Pin
	// Addresses are where they dial it, and the relays that are one service with it, as far as the relay knows; none if it does not.
	Addresses []string
	// Reaches reports whether the relay's certificate has the name of a host; nil if nobody knows.
	Reaches func(host string) error
}

// MakeTokenIn makes a token and notes it in a ledger.
func MakeTokenIn(l *ledger.Ledger, at Place, t relayapi.NewToken) (relayapi.MadeToken, error) {
	if err := checkToken(t); err != nil {
		return relayapi.MadeToken{}, &requestError{err}
	}
	made := relayapi.MadeToken{Addresses: t.Addresses, Notes: []string{}}
	if len(t.Addresses) == 0 {
		if len(at.Addresses) == 0 {
			return made, &requestError{errors.New("say where agents dial the relay: --relay.address=HOST:PORT")}
		}
		made.Addresses = at.Addresses
		made.Notes = append(made.Notes, fmt.Sprintf("agents will dial %s; if they reach the relay by another name, give that (--relay.address), and to the relay itself as well (--grpc.tls.server-name)", strings.Join(at.Addresses, ", ")))
	}
	if err := enrol.CheckAddresses(made.Addresses); err != nil {
		return made, &requestError{err}
	}
	made.Notes = append(made.Notes, unreachable(at, made.Addresses)...)
	token := enrol.NewToken(made.Addresses, at.CA)
	now := time.Now()
	noted := ledger.Token{
		ID: token.ID.String(), Hash: token.Secret.Hash(), Name: t.Name, Prefix: t.Prefix, Replace: t.Replace, Uses: t.Uses,
		At: now, End: now.Add(time.Duration(t.TTLSeconds) * time.Second),
	}
	if err := l.MakeToken(noted); err != nil {
		return made, undone("no token was made", err)
	}
	made.Token, made.Text = tokenOf(noted), token.Text()
	return made, nil
}

func checkToken(t relayapi.NewToken) error {
	if err := ledger.CheckTokenName(t.Name, t.Prefix); err != nil {
		return err
	}
	if ttl := time.Duration(t.TTLSeconds) * time.Second; t.TTLSeconds > int64(longestTTL/time.Second) || ttl < shortestTTL {
		return fmt.Errorf("a token that is good for %d s, want %s to %d days", t.TTLSeconds, shortestTTL, longestTTL/(24*time.Hour))
	}
	if t.Uses < 1 || t.Uses > mostUses {
		return fmt.Errorf("a token of %d uses, want 1 to %d", t.Uses, mostUses)
	}
	if t.Replace && !t.Prefix {
		return errors.New("a token for one name may replace what is there anyway: --replace is for one with a prefix")
	}
	return nil
}

// unreachable says which addresses agents will find another relay at, or none.
func unreachable(at Place, addresses []string) []string {
	var notes []string
	for _, address := range addresses {
		if at.Reaches == nil {
			break
		}
		if err := at.Reaches(address); err != nil {
			notes = append(notes, fmt.Sprintf("%s: %v. Unless that is another relay of the same authority, start this one with --grpc.tls.server-name for it", address, err))
		}
	}
	return notes
}

func tokenOf(t ledger.Token) relayapi.Token {
	return relayapi.Token{
		ID: t.ID, Name: t.Name, Prefix: t.Prefix, Replace: t.Replace, Uses: t.Uses, Used: t.Used, MadeAt: t.At.UTC().Truncate(time.Second), EndsAt: t.End.UTC().Truncate(time.Second),
	}
}

// TokensIn returns the tokens of what a ledger says that are neither ended nor void, the oldest first.
func TokensIn(s *ledger.State) []relayapi.Token {
	out := []relayapi.Token{}
	for _, t := range s.Tokens(time.Now()) {
		out = append(out, tokenOf(t))
	}
	return out
}

// VoidTokenIn voids a token of a ledger.
func VoidTokenIn(l *ledger.Ledger, id string) (relayapi.Token, error) {
	t, err := l.VoidToken(id, time.Now())
	if errors.Is(err, ledger.ErrToken) {
		err = fmt.Errorf("token %.40q: %w", id, errNoToken)
	}
	if err != nil {
		return relayapi.Token{}, undone("token "+t.ID+" is NOT void", err)
	}
	return tokenOf(t), nil
}

// errNoToken means that there is no such token.
var errNoToken = errors.New("there is none of that id that lets anybody in (agents tokens lists them)")

// MakeToken makes a join token.
func (c *Control) MakeToken(t relayapi.NewToken) (relayapi.MadeToken, error) {
	at, err := c.cfg.Place()
	if err != nil {
		return relayapi.MadeToken{}, &stateError{err}
	}
	made, err := MakeTokenIn(c.cfg.Ledger, at, t)
	if err == nil {
		c.cfg.Logger.Info("join token made", slog.String("audit", "token_made"), slog.String("token", made.ID), slog.String("agent", made.Name), slog.Bool("prefix", made.Prefix),
			slog.Bool("replace", made.Replace), slog.Int("uses", made.Uses), slog.Time("ends", made.EndsAt))
	}
	return made, err
}

// VoidToken makes a join token let nobody in any more.
func (c *Control) VoidToken(id string) (relayapi.Token, error) {
	t, err := VoidTokenIn(c.cfg.Ledger, id)
	if err == nil {
		c.cfg.Logger.Warn("join token voided", slog.String("audit", "token_voided"), slog.String("token", t.ID), slog.String("agent", t.Name))
	}
	return t, err
}

// Issued is told of each certificate that the ledger has taken.
func (c *Control) Issued(issued ledger.Certificate) {
	c.metrics.issued.WithLabelValues(string(issued.By)).Inc()
	c.cfg.Logger.Info("certificate issued", slog.String("audit", "issued"), slog.String("agent", issued.Agent), slog.String("serial", issued.Serial),
		slog.String("by", string(issued.By)), slog.String("token", issued.Token), slog.String("renewed", issued.Parent), slog.String("addr", issued.Address), slog.Time("not_after", issued.To))
}

// A stateError is what cannot be done as the relay is.
type stateError struct{ err error }

func (e *stateError) Error() string { return e.err.Error() }
func (e *stateError) Unwrap() error { return e.err }
