package control

import (
	"cmp"
	"fmt"
	"slices"

	"pushrelay/internal/ledger"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/roster"
)

// Join returns what is known of agents and what is in a ledger as one list, sorted by name, with all certificates.
func Join(known []roster.Agent, issued []ledger.Agent) []relayapi.Agent {
	agents := make([]relayapi.Agent, 0, max(len(known), len(issued)))
	places := make(map[string]int, len(known))
	for _, k := range known {
		places[k.Name] = len(agents)
		agents = append(agents, ofRoster(k))
	}
	for _, i := range issued {
		place, found := places[i.Name]
		if !found {
			place = len(agents)
			agents = append(agents, relayapi.Agent{Agent: i.Name, State: relayapi.AgentUnseen, RevokedCertificates: []relayapi.Revocation{}})
		}
		addLedger(&agents[place], i)
	}
	slices.SortFunc(agents, func(x, y relayapi.Agent) int { return cmp.Compare(x.Agent, y.Agent) })
	return agents
}

// CameBy returns those of the agents that have a certificate by a token.
func CameBy(agents []relayapi.Agent, token string) []relayapi.Agent {
	return slices.DeleteFunc(agents, func(a relayapi.Agent) bool {
		return !slices.ContainsFunc(a.Certificates, func(c relayapi.Certificate) bool { return c.Token == token })
	})
}

// Find returns the agent of a name. The error is [roster.ErrUnknown] if there is none.
func Find(agents []relayapi.Agent, name string) (relayapi.Agent, error) {
	for _, a := range agents {
		if a.Agent == name {
			return a, nil
		}
	}
	return relayapi.Agent{}, fmt.Errorf("agent %q: %w", name, roster.ErrUnknown)
}

func ofRoster(k roster.Agent) relayapi.Agent {
	state := relayapi.AgentAway
	if k.Connected {
		state = relayapi.AgentConnected
	}
	return relayapi.Agent{
		Agent: k.Name, State: state, RevokedCertificates: []relayapi.Revocation{}, SessionStarted: relayapi.TimeOrNull(k.SessionStarted), LastSeen: relayapi.TimeOrNull(k.LastSeen),
		Version: k.Version, RemoteAddress: k.RemoteAddress, CertificateNotAfter: relayapi.TimeOrNull(k.CertificateNotAfter), CertificateSerial: k.CertificateSerial,
		Targets: len(k.Targets),
	}
}

// addLedger adds what a ledger has of an agent. It may come in although the name is revoked: by a certificate that a token issued afterwards.
func addLedger(a *relayapi.Agent, i ledger.Agent) {
	if i.Revoked != nil {
		a.Revoked = &relayapi.Revocation{At: i.Revoked.At.UTC()}
	}
	if i.IsOut() && a.State != relayapi.AgentConnected {
		a.State = relayapi.AgentRevoked
	}
	a.RevokedCertificates = revocations(i.Serials)
	for _, c := range i.Certificates {
		a.Certificates = append(a.Certificates, relayapi.Certificate{
			Serial: c.Serial, From: c.From.UTC(), To: c.To.UTC(), By: string(c.By), IssuedAt: c.At.UTC(), Address: c.Address, Token: c.Token, Parent: c.Parent, Revoked: c.Refused,
		})
	}
	if n := len(i.Certificates); n > 0 && a.CertificateNotAfter == nil {
		a.CertificateNotAfter, a.CertificateSerial = relayapi.TimeOrNull(i.Certificates[n-1].To), i.Certificates[n-1].Serial
	}
}

func revocations(of []ledger.Revocation) []relayapi.Revocation {
	out := make([]relayapi.Revocation, 0, len(of))
	for _, r := range of {
		out = append(out, relayapi.Revocation{Serial: r.Serial, At: r.At.UTC()})
	}
	return out
}
