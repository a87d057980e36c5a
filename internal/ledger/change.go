package ledger

import (
	"errors"
	"fmt"
	"time"
)

// A RevokedError says that an agent gets no certificate, because its name is revoked.
type RevokedError struct{ Agent string }

// Error says what lets it in again: first what lets in nobody else.
func (e *RevokedError) Error() string {
	return fmt.Sprintf("%s is revoked: relay-server agents token %s lets it in with a new key; relay-server agents allow %s lets in every certificate that it had, also a stolen one", e.Agent, e.Agent, e.Agent)
}

// ErrNotRevoked means that there is nothing to lift.
var ErrNotRevoked = errors.New("is not revoked")

// ErrIssued means that the ledger has the certificate already.
var ErrIssued = errors.New("the ledger has this certificate already")

// Issue notes a certificate before it is handed out. One by a token spends it, in the same record; the error is [ErrToken] or a [*NameError] if
// the token does not let the agent in. One by renewal, of a certificate that is refused, and one by command for a name that is revoked, is
// a [*RevokedError].
func (l *Ledger) Issue(c Certificate) error {
	return l.IssueOnce(c, func(Certificate) bool { return false })
}

// An AgainError says that a token's key has a certificate already, which is to be handed out again.
type AgainError struct{ Former Certificate }

// Error says that.
func (e *AgainError) Error() string {
	return fmt.Sprintf("the key has the certificate %s of %s already", e.Former.Serial, e.Former.Agent)
}

// IssueOnce is [Ledger.Issue], unless the key has got a certificate by the same token, under the same name, which suits: the error is an [*AgainError]
// then. Other relays may have issued that one.
func (l *Ledger) IssueOnce(c Certificate, suits func(former Certificate) bool) error {
	r := Record{At: c.At.UTC(), Issued: &issuedRecord{
		Agent: c.Agent, Serial: c.Serial, From: c.From.UTC(), To: c.To.UTC(), By: c.By, Address: c.Address, Token: c.Token, Key: c.Key, Parent: c.Parent,
	}}
	if err := r.check(); err != nil {
		return fmt.Errorf("noting a certificate: %w", err)
	}
	return l.note(func() ([]Record, error) {
		if former, found := l.Again(c.Token, c.Key, c.Agent); found && suits(former) {
			return nil, &AgainError{former}
		}
		return []Record{r}, l.mayIssue(c)
	})
}

func (l *Ledger) mayIssue(c Certificate) error {
	if l.Has(c.Agent, c.Serial) {
		return ErrIssued
	}
	switch c.By {
	case ByToken:
		return l.admit(c, l.grace)
	case ByRenewal:
		if _, refused := l.Refuses(c.Agent, c.Parent); refused {
			return &RevokedError{c.Agent}
		}
	default:
		l.mu.RLock()
		defer l.mu.RUnlock()
		if l.isRevoked(c.Agent) {
			return &RevokedError{c.Agent}
		}
	}
	return nil
}

// Revoke refuses from now on what r names, and returns what was written, that first and then the certificates that were renewed from a single one.
// It is durable then. Until is raised to the end of the last certificate that the ledger has, unless it is zero; for a single certificate that the
// ledger has it is that one's end. Tokens for a name that is revoked are void. Revoking again is no error: it also refuses what was issued
// meanwhile.
func (l *Ledger) Revoke(r Revocation) (done []Revocation, err error) {
	err = l.note(func() (records []Record, err error) {
		done, records, err = l.toRevoke(r)
		return records, err
	})
	if err != nil {
		return nil, err // none of them counts
	}
	return done, nil
}

// toRevoke returns what is to be noted so that a revocation counts, see [Ledger.Revoke].
func (s *State) toRevoke(r Revocation) (all []Revocation, records []Record, err error) {
	known, _ := s.Agent(r.Agent)
	for _, serial := range withRenewed(r.Serial, known.Certificates) {
		one := r
		one.Serial = serial
		one.Until = untilOf(one, known.Certificates)
		rec := Record{At: one.At.UTC(), Revoked: &revokedRecord{Agent: one.Agent, Serial: one.Serial, Until: one.Until.UTC(), Keep: one.KeepTargets}}
		if err := rec.check(); err != nil {
			return nil, nil, fmt.Errorf("revoking: %w", err)
		}
		all, records = append(all, one), append(records, rec)
	}
	return all, records, nil
}

// withRenewed returns a serial number and those of the certificates that were renewed from it, directly or not. Issued has them in their order.
func withRenewed(serial string, issued []Certificate) []string {
	serials := []string{serial}
	if serial == "" {
		return serials
	}
	descend := map[string]bool{serial: true}
	for _, c := range issued {
		if descend[c.Parent] {
			descend[c.Serial] = true
			serials = append(serials, c.Serial)
		}
	}
	return serials
}

func untilOf(r Revocation, issued []Certificate) time.Time {
	for _, c := range issued {
		switch {
		case c.Serial == r.Serial:
			return c.To
		case r.Serial == "" && !r.Until.IsZero() && c.To.After(r.Until):
			r.Until = c.To
		}
	}
	return r.Until
}

// Allow lifts all revocations of a name, those of single certificates included, and returns them. The error is [ErrNotRevoked] if there is none.
func (l *Ledger) Allow(name string, now time.Time) (lifted []Revocation, err error) {
	err = l.note(func() ([]Record, error) {
		known, _ := l.Agent(name)
		lifted = known.Serials
		if known.Revoked != nil {
			lifted = append([]Revocation{*known.Revoked}, lifted...)
		}
		if len(lifted) == 0 {
			return nil, fmt.Errorf("%s %w", name, ErrNotRevoked)
		}
		return []Record{{At: now.UTC(), Allowed: &allowedRecord{Agent: name}}}, nil
	})
	if err != nil {
		return nil, err
	}
	return lifted, nil
}
