package tunnelclient

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/tunnel"
)

// TestOnlyWhatWasAnnouncedIsSent: a relay of an earlier release is sent nothing that it would not understand (T9).
func TestOnlyWhatWasAnnouncedIsSent(t *testing.T) {
	const (
		origin  = relayv1.Capability_CAPABILITY_PUSH_ORIGIN
		failure = relayv1.Capability_CAPABILITY_PUSH_FAILURE
		hidden  = relayv1.Capability_CAPABILITY_MAY_BE_HIDDEN
		life    = relayv1.Capability_CAPABILITY_LIFE
		add     = relayv1.Capability_CAPABILITY_ADD
	)
	for _, tt := range []struct {
		name       string
		announced  []relayv1.Capability
		operation  change.Operation
		sent       bool
		withOrigin bool
		mayHide    bool
		withLife   bool
		later      bool // it waits until the relay can
	}{
		{name: "everything", announced: []relayv1.Capability{origin, failure}, operation: change.Fail, sent: true, withOrigin: true},
		{name: "no failures", announced: []relayv1.Capability{origin}, operation: change.Fail},
		{name: "no failures, and a push", announced: []relayv1.Capability{origin}, operation: change.Merge, sent: true, withOrigin: true},
		{name: "hiding", announced: []relayv1.Capability{hidden}, operation: change.Replace, sent: true, mayHide: true},
		{name: "lives", announced: []relayv1.Capability{life}, operation: change.Replace, sent: true, withLife: true},
		{name: "no origins", announced: []relayv1.Capability{failure, 99}, operation: change.Replace, sent: true},
		{name: "no additions", announced: []relayv1.Capability{origin}, operation: change.Add, later: true},
		{name: "additions without origins", announced: []relayv1.Capability{add}, operation: change.MergeSeries, later: true},
		{name: "additions", announced: []relayv1.Capability{add, origin}, operation: change.Add, sent: true, withOrigin: true},
	} {
		var told bytes.Buffer
		s := &session{welcome: &relayv1.Welcome{Capabilities: tt.announced}, link: &Link{cfg: Config{Logger: slog.New(slog.NewTextHandler(&told, nil))}}}
		r := &change.Change{Operation: tt.operation, Origin: &change.Origin{Sequence: 1}, MayBeHidden: true, Life: lifetime.Declaration{TTL: lifetime.None}, Failed: "x"}
		err := s.supports(r)
		if errors.Is(err, tunnel.ErrUnsupported) == (tt.sent || tt.later) || errors.Is(err, change.Unavailable) != tt.later {
			t.Errorf("%s: supports(%v) = %v", tt.name, tt.operation, err)
		}
		if tt.sent && r.MayBeHidden != tt.mayHide {
			t.Errorf("%s: may be hidden: %t", tt.name, r.MayBeHidden)
		}
		if tt.sent && (r.Origin != nil) != tt.withOrigin {
			t.Errorf("%s: the origin is %v", tt.name, r.Origin)
		}
		if tt.sent && (!r.Life.IsZero() != tt.withLife || (r.Failed != "") != tt.withLife) {
			t.Errorf("%s: the life is %+v, the failure %q", tt.name, r.Life, r.Failed)
		}
		for range 2 {
			err = s.supports(&change.Change{Operation: change.Merge, Failed: "x"})
		}
		if lines := strings.Count(told.String(), "\n"); err != nil || (lines == 0) != tt.withLife || lines > 1 {
			t.Errorf("%s: %v, the log says %q", tt.name, err, told.String())
		}
	}
}
