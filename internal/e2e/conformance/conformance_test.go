//go:build linux

package conformance_test

import (
	"testing"

	"pushrelay/internal/e2e/gateway"
)

// A behaviour is one of the Pushgateway, beginning with an empty one: requests, and what the exposition says
// of groups afterwards. A behaviour about a quirk says what the relay does instead, and why.
type behaviour struct {
	name string
	do   []gateway.Request
	want string // see gateway.state; its metadata counts if any of it is wanted
	// unlike says why Debian's Pushgateway, which is 1.5.1, does not do this: a quirk that the relay does not have, or
	// something that came with a later version.
	unlike string
	// first does what no request can say; then looks at what the exposition does not show.
	first, then func(t *testing.T, g *gateway.Gateway)
}

// TestConformance runs every behaviour against the relay, and against Debian's Pushgateway where that does the same: one that
// is wrong about the reference fails there.
//
// What is kept over restarts is not among them: durability is another topic.
func TestConformance(t *testing.T) {
	t.Parallel()
	suites := []struct {
		name       string
		flags      []string
		unlike     string // as that of a behaviour, for all of them
		behaviours []behaviour
	}{
		{name: "grouping keys", behaviours: pathBehaviours},
		{name: "pushes", behaviours: pushBehaviours},
		{name: "bodies", behaviours: bodyBehaviours},
		{name: "consistency", behaviours: consistencyBehaviours},
		{name: "encodings", behaviours: encodingBehaviours},
		{name: "protobuf", behaviours: protobufBehaviours()},
		{name: "answers", behaviours: answerBehaviours},
		{name: "UTF-8 names", flags: []string{"--push.enable-utf8-names"}, unlike: "UTF-8 names came later", behaviours: utf8Behaviours},
		{name: "check off", flags: []string{"--push.disable-consistency-check"}, behaviours: uncheckedBehaviours},
	}
	for _, suite := range suites {
		flags := append([]string{"--web.enable-admin-api"}, suite.flags...)
		t.Run("relay/"+suite.name, func(t *testing.T) {
			t.Parallel()
			g := gateway.Relay(t, flags...)
			for _, b := range suite.behaviours {
				t.Run(b.name, func(t *testing.T) { b.check(t, g) })
			}
		})
		if suite.unlike != "" {
			continue
		}
		t.Run("reference/"+suite.name, func(t *testing.T) {
			t.Parallel()
			g := gateway.Reference(t, flags...)
			for _, b := range suite.behaviours {
				if b.unlike == "" {
					t.Run(b.name, func(t *testing.T) { b.check(t, g) })
				}
			}
		})
	}
}

func (b behaviour) check(t *testing.T, g *gateway.Gateway) {
	t.Helper()
	g.Wipe(t)
	if b.first != nil {
		b.first(t, g)
	}
	for _, request := range b.do {
		g.Check(t, request)
	}
	g.WantState(t, b.want, hasMetadata(b.want))
	if b.then != nil {
		b.then(t, g)
	}
}
