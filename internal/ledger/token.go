package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/mtls"
)

// Hash is the SHA-256 of a token's secret.
type Hash [sha256.Size]byte

// Token is a join token: what lets agents in. The ledger has no secret of it.
type Token struct {
	// ID is 8 bytes in hexadecimal.
	ID   string
	Hash Hash
	// Name is the agent's; with Prefix, what the names of agents begin with.
	Name   string
	Prefix bool
	// Replace lets one with Prefix also take over names that have a certificate.
	Replace bool
	// Uses is how many keys it lets in, each under one name, at least one, and Used how many it has.
	Uses, Used int
	// At is when it was made, End when it is over.
	At, End time.Time
}

// Reaches reports whether the token is for a name.
func (t *Token) Reaches(name string) bool {
	if t.Prefix {
		return len(name) > len(t.Name) && strings.HasPrefix(name, t.Name)
	}
	return name == t.Name
}

// For says in a word or two whom the token is for.
func (t *Token) For() string {
	if t.Prefix {
		return t.Name + "…"
	}
	return t.Name
}

// CheckTokenName returns an error unless a token can be for that name, or for names that begin so.
func CheckTokenName(name string, prefix bool) error { //nolint:revive // It is a field of the token.
	if !prefix {
		return mtls.CheckAgentName(name)
	}
	if err := mtls.CheckAgentName(name + "0"); err != nil {
		return fmt.Errorf("as the beginning of names: %w", err)
	}
	return nil
}

// ErrToken means that a token lets nobody in: it is not known, or used, ended or void. Whoever holds it is told no more than that.
var ErrToken = errors.New("the token is unknown to this relay, or used, ended or void")

// A NameError says why a token, which is good, does not let a name in.
type NameError struct{ Reason string }

// Error returns the reason.
func (e *NameError) Error() string { return e.Reason }

// knownToken is guarded by State.mu.
type knownToken struct {
	Token

	void bool
	uses map[use]int // the places of what was issued last for each
}

// use is whom a token has let in: a key, under a name.
type use struct{ key, agent string }

func newKnownToken(r Record) *knownToken {
	t := &knownToken{uses: map[use]int{}, Token: Token{
		ID: r.Token.ID, Name: r.Token.Name, Prefix: r.Token.Prefix, Replace: r.Token.Replace, Uses: r.Token.Uses, At: r.At, End: r.Token.End,
	}}
	hex.Decode(t.Hash[:], []byte(r.Token.Hash)) //nolint:errcheck // A record is checked before it counts.
	return t
}

// isLive reports whether the token is to be remembered. Nil is none.
func (t *knownToken) isLive(now time.Time) bool { return t != nil && !t.void && now.Before(t.End) }

// use counts what was issued for a token: a key once under each name. The caller holds mu.
func (s *State) use(c *issuedRecord, place int) {
	if t := s.tokens[c.Token]; t != nil {
		t.uses[use{c.Key, c.Agent}] = place
		t.Used = len(t.uses)
	}
}

// Again returns the certificate that a token's key got last under a name, which may be handed out once more; found is false if there is none, or if it is
// refused.
func (s *State) Again(token, key, agent string) (c Certificate, found bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tokens[token]
	if t == nil || t.uses[use{key, agent}] == none {
		return Certificate{}, false
	}
	c = s.certificate(t.uses[use{key, agent}])
	return c, !c.Refused
}

// void makes a token let nobody in. The caller holds mu.
func (s *State) void(id string) {
	if t := s.tokens[id]; t != nil {
		t.void = true
	}
}

// voidOf voids the tokens for a name that is revoked. The caller holds mu.
func (s *State) voidOf(name string) {
	for _, t := range s.tokens {
		if !t.Prefix && t.Name == name {
			t.void = true
		}
	}
}

// Token returns a token that is neither ended nor void; it may be used up.
func (s *State) Token(id string, now time.Time) (t Token, found bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if known := s.tokens[id]; known.isLive(now) {
		return known.Token, true
	}
	return Token{}, false
}

// Tokens returns the tokens that are neither ended nor void, the oldest first.
func (s *State) Tokens(now time.Time) []Token {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := []Token{}
	for _, r := range s.records {
		if r.Token != nil && s.tokens[r.Token.ID].isLive(now) {
			out = append(out, s.tokens[r.Token.ID].Token)
		}
	}
	return out
}

// Reaching returns the tokens with a prefix that reach a name and have uses left.
func (s *State) Reaching(name string, now time.Time) []Token {
	return slices.DeleteFunc(s.Tokens(now), func(t Token) bool { return !t.Prefix || !t.Reaches(name) || t.Used >= t.Uses })
}

// admit returns nil if a token lets an agent in by the certificate that is to be issued.
func (s *State) admit(c Certificate, grace time.Duration) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tokens[c.Token]
	if !t.isLive(c.At) {
		return ErrToken
	}
	if again := t.uses[use{c.Key, c.Agent}] != none; !again && t.Used >= t.Uses {
		return ErrToken
	}
	switch {
	case !t.Reaches(c.Agent):
		return &NameError{fmt.Sprintf("the token is not for %s", c.Agent)}
	case !t.Prefix:
		return nil // A revocation has voided the tokens that were for the name; this one is newer.
	case s.isRevoked(c.Agent):
		return &NameError{fmt.Sprintf("%s is revoked: only a token for that very name lets it in again (relay-server agents token %s)", c.Agent, c.Agent)}
	case !t.Replace && s.hasOther(c.Agent, c.Key, c.At, grace):
		return &NameError{fmt.Sprintf("%s has a certificate already, which may still be used or renewed: choose another name, or take a token that may replace (relay-server agents token --replace)", c.Agent)}
	default:
		return nil
	}
}

// MakeToken notes a token before it is handed out.
func (l *Ledger) MakeToken(t Token) error {
	r := Record{At: t.At.UTC(), Token: &tokenRecord{
		ID: t.ID, Hash: hex.EncodeToString(t.Hash[:]), Name: t.Name, Prefix: t.Prefix, Replace: t.Replace, Uses: t.Uses, End: t.End.UTC(),
	}}
	if err := r.check(); err != nil {
		return fmt.Errorf("noting a token: %w", err)
	}
	return l.note(func() ([]Record, error) { return []Record{r}, nil })
}

// VoidToken makes a token let nobody in any more, and returns it. The error is [ErrToken] if it does not anyway.
func (l *Ledger) VoidToken(id string, now time.Time) (t Token, err error) {
	err = l.note(func() ([]Record, error) {
		var found bool
		if t, found = l.Token(id, now); !found {
			return nil, fmt.Errorf("token %.40q: %w", id, ErrToken)
		}
		return []Record{{At: now.UTC(), Voided: &voidedRecord{Token: id}}}, nil
	})
	return t, err
}
