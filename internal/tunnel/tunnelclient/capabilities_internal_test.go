package tunnelclient

import (
	"errors"
	"testing"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/push"
	"pushrelay/internal/tunnel"
)

// TestOnlyWhatWasAnnouncedIsSent: a relay of an earlier release is sent nothing that it would not understand (T9).
func TestOnlyWhatWasAnnouncedIsSent(t *testing.T) {
	const origin, failure = relayv1.Capability_CAPABILITY_PUSH_ORIGIN, relayv1.Capability_CAPABILITY_PUSH_FAILURE
	for _, tt := range []struct {
		name       string
		announced  []relayv1.Capability
		operation  push.Operation
		sent       bool
		withOrigin bool
	}{
		{name: "everything", announced: []relayv1.Capability{origin, failure}, operation: push.Fail, sent: true, withOrigin: true},
		{name: "no failures", announced: []relayv1.Capability{origin}, operation: push.Fail},
		{name: "no failures, and a push", announced: []relayv1.Capability{origin}, operation: push.Merge, sent: true, withOrigin: true},
		{name: "no origins", announced: []relayv1.Capability{failure, 99}, operation: push.Replace, sent: true},
	} {
		s := &session{welcome: &relayv1.Welcome{Capabilities: tt.announced}}
		r := &push.Request{Operation: tt.operation, Origin: &push.Origin{Sequence: 1}}
		err := s.supports(r)
		if errors.Is(err, tunnel.ErrUnsupported) == tt.sent {
			t.Errorf("%s: supports(%v) = %v", tt.name, tt.operation, err)
		}
		if tt.sent && (r.Origin != nil) != tt.withOrigin {
			t.Errorf("%s: the origin is %v", tt.name, r.Origin)
		}
	}
}
