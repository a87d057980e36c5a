package ledger

import (
	"errors"
	"fmt"
	"time"
)

// A RevokedError says that an agent gets no certificate, because its name is revoked.
type RevokedError struct{ Agent string }

// Error says what lifts that.
func (e *RevokedError) Error() string {
	return fmt.Sprintf("%s is revoked: relay-server agents allow %s lifts that", e.Agent, e.Agent)
}

// ErrNotRevoked means that there is nothing to lift.
var ErrNotRevoked = errors.New("is not revoked")

// ErrIssued means that the ledger has the certificate already.
var ErrIssued = errors.New("the ledger has this certificate already")

// Issue notes a certificate before it is handed out. For a name that is revoked only a token may issue one; anything else is a [*RevokedError].
func (l *Ledger) Issue(c Certificate) error {
	r := record{At: c.At.UTC(), Issued: &issuedRecord{
		Agent: c.Agent, Serial: c.Serial, From: c.From.UTC(), To: c.To.UTC(), By: c.By, Address: c.Address,
	}}
	if err := r.check(); err != nil {
		return fmt.Errorf("noting a certificate: %w", err)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	known, _ := l.Agent(c.Agent)
	if known.Revoked != nil && c.By != ByToken {
		return &RevokedError{c.Agent}
	}
	for _, there := range known.Certificates {
		if there.Serial == c.Serial {
			return ErrIssued
		}
	}
	return l.append(r)
}

// Revoke refuses from now on what r names, and returns what was written. It is durable then. Until is raised to the end of the last
// certificate that the ledger has, unless it is zero; for a single certificate that the ledger has it is that one's end. Revoking again is no
// error: it also refuses what was issued meanwhile.
func (l *Ledger) Revoke(r Revocation) (Revocation, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	known, _ := l.Agent(r.Agent)
	r.Until = untilOf(r, known.Certificates)
	rec := record{At: r.At.UTC(), Revoked: &revokedRecord{Agent: r.Agent, Serial: r.Serial, Until: r.Until.UTC(), Keep: r.KeepTargets}}
	if err := rec.check(); err != nil {
		return r, fmt.Errorf("revoking: %w", err)
	}
	return r, l.append(rec)
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
func (l *Ledger) Allow(name string, now time.Time) ([]Revocation, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	known, _ := l.Agent(name)
	lifted := known.Serials
	if known.Revoked != nil {
		lifted = append([]Revocation{*known.Revoked}, lifted...)
	}
	if len(lifted) == 0 {
		return nil, fmt.Errorf("%s %w", name, ErrNotRevoked)
	}
	if err := l.append(record{At: now.UTC(), Allowed: &allowedRecord{Agent: name}}); err != nil {
		return nil, err
	}
	return lifted, nil
}
