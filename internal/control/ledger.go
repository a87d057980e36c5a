package control

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"pushrelay/internal/ledger"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relayapi"
)

// RevokeIn writes a revocation to a ledger. LongestLife is that of [Config].
func RevokeIn(l *ledger.Ledger, name string, r relayapi.Revoke, longestLife time.Duration) (relayapi.Revoked, error) {
	revocation := ledger.Revocation{Agent: name, At: time.Now(), KeepTargets: r.KeepTargets}
	if r.Serial != "" {
		var err error
		if revocation.Serial, err = ledger.Serial(r.Serial); err != nil {
			return relayapi.Revoked{}, &requestError{fmt.Errorf("serial %q: %w", r.Serial, err)}
		}
	} else if longestLife > 0 {
		revocation.Until = revocation.At.Add(longestLife)
	}
	if err := mtls.CheckAgentName(name); err != nil {
		return relayapi.Revoked{}, &requestError{err}
	}
	known, found := l.Agent(name)
	if revocation.Serial != "" {
		found = known.Has(revocation.Serial)
	}
	done := relayapi.Revoked{Agent: name, Serial: revocation.Serial, Known: found, TokensVoided: []relayapi.Token{}, TokensLeft: []relayapi.Token{}}
	if revocation.Serial == "" {
		done.TokensVoided = tokensOf(l, name, revocation.At) // the revocation itself voids them
	}
	revoked, err := l.Revoke(revocation)
	if err != nil {
		return relayapi.Revoked{}, undone(done.What()+" is NOT revoked", err)
	}
	for _, renewed := range revoked[1:] {
		done.Renewed = append(done.Renewed, renewed.Serial)
	}
	if revocation.Serial != "" {
		return done, nil
	}
	return done, voidReaching(l, &done, r.WithTokens, revocation.At)
}

// tokensOf returns the tokens for that very name.
func tokensOf(l *ledger.Ledger, name string, now time.Time) []relayapi.Token {
	out := []relayapi.Token{}
	for _, t := range l.Tokens(now) {
		if !t.Prefix && t.Name == name {
			out = append(out, tokenOf(t))
		}
	}
	return out
}

// voidReaching names the tokens with a prefix that reach an agent, and voids them if that is wanted.
func voidReaching(l *ledger.Ledger, done *relayapi.Revoked, wanted bool, now time.Time) error {
	for _, t := range l.Reaching(done.Agent, now) {
		if !wanted {
			done.TokensLeft = append(done.TokensLeft, tokenOf(t))
			continue
		}
		if _, err := l.VoidToken(t.ID, now); err != nil {
			return undone(done.Agent+" is revoked, and token "+t.ID+" that reaches it is NOT void", err)
		}
		done.TokensVoided = append(done.TokensVoided, tokenOf(t))
	}
	return nil
}

// AllowIn lifts all revocations of a name in a ledger.
func AllowIn(l *ledger.Ledger, name string) (relayapi.Allowed, error) {
	lifted, err := l.Allow(name, time.Now())
	if err != nil {
		return relayapi.Allowed{}, undone(name+" is revoked as before", err)
	}
	return relayapi.Allowed{Agent: name, Lifted: revocations(lifted)}, nil
}

// NoteIn writes a certificate to a ledger.
func NoteIn(l *ledger.Ledger, cert *x509.Certificate, by ledger.Way) (ledger.Certificate, error) {
	id, err := mtls.PeerIDFromCertificate(cert)
	if err != nil {
		return ledger.Certificate{}, fmt.Errorf("noting a certificate: %w", err)
	}
	c := ledger.Certificate{Agent: id.Agent, Serial: mtls.Serial(cert), From: cert.NotBefore, To: cert.NotAfter, By: by, At: time.Now()}
	return c, l.Issue(c)
}

// undone says what did not come to pass because the ledger could not be written. Any other error says it itself, also that nobody knows.
func undone(what string, err error) error {
	if without, ok := errors.AsType[*ledger.NoMajorityError](err); ok && !without.InDoubt {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, unwritten := errors.AsType[*ledger.WriteError](err); !unwritten {
		return err
	}
	return fmt.Errorf("%s: %w: free space or mend the disk, and do the same again", what, err)
}

// A requestError is what can never be done as it was asked for.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }
