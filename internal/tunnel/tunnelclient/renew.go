package tunnelclient

import (
	"context"
	"fmt"

	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// IsOpen says whether there is a session.
func (l *Link) IsOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current != nil
}

// Renew asks the relay for the agent's next certificate, over the session that is open. See renewal.Session.
func (l *Link) Renew(ctx context.Context, request []byte) (*relayv1.IssuedCertificate, error) {
	l.mu.Lock()
	s := l.current
	l.mu.Unlock()
	if s == nil {
		return nil, &enrol.Refusal{Reason: enrol.ReasonLater, Message: fmt.Sprintf("relay %s: there is no session", l.cfg.Address)}
	}
	if !s.relayCan(relayv1.Capability_CAPABILITY_RENEW) {
		return nil, &enrol.Refusal{Reason: enrol.ReasonCannotSign, Message: fmt.Sprintf("relay %s renews no certificates: it is of an earlier release, or has no authority of its own", l.cfg.Address)}
	}
	answer, err := s.client.Renew(ctx, &relayv1.RenewRequest{Session: s.welcome.GetSession(), CertificateRequest: request})
	if err == nil {
		return answer.GetIssued(), nil
	}
	if refusal, ok := enrol.RefusalFrom(err); ok {
		return nil, &enrol.Refusal{Reason: refusal.Reason, Message: fmt.Sprintf("relay %s: %s", l.cfg.Address, tunnel.Text(refusal.Message))}
	}
	return nil, fmt.Errorf("relay %s: %s", l.cfg.Address, tunnel.Text(status.Convert(err).Message()))
}

// DialNow ends a wait for the next attempt at a session.
func (l *Link) DialNow() {
	select {
	case l.dialNow <- struct{}{}:
	default:
	}
}

// Revoked notes that a relay of the same authority refused to renew because the agent is revoked.
func (l *Link) Revoked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.status.Connected {
		l.status.Revoked = true
	}
}
