package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/common/version"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
	"pushrelay/internal/renewal"
	"pushrelay/internal/spool"
	"pushrelay/internal/tunnel/tunnelclient"
)

// credential is what the agent proves itself by to some relays.
type credential struct {
	certificates *mtls.Reloader
	relays       []string
	keeper       *renewal.Keeper // nil for files of flags, which are never written
	links        []*tunnelclient.Link
}

// expired returns who is told that a relay calls the certificate expired; nil for nobody.
func (c *credential) expired() func() {
	if c.keeper == nil {
		return nil
	}
	return c.keeper.Expired
}

// askRevoked returns who asks a relay whether a certificate is revoked.
func (a *Agent) askRevoked(c *credential, relay string) func(context.Context) (string, bool) {
	return func(ctx context.Context) (string, bool) {
		return a.client.Revoked(ctx, relay, c.certificates.Material())
	}
}

// keep keeps the certificate valid, if that is the agent's business, until ctx ends.
func (c *credential) keep(ctx context.Context) error {
	if c.keeper == nil {
		return nil
	}
	var sessions []renewal.Session
	for _, link := range c.links {
		sessions = append(sessions, link)
	}
	return c.keeper.Run(ctx, sessions)
}

// certificateRenewal says what to do about the certificate of flags when it ends.
const certificateRenewal = "replace it: issue it again on the relay's machine (relay-server agent-certificate NAME --out DIR) and copy agent.key and agent.crt over the old ones; no restart is needed"

// prepare finds out what the agent proves itself by. Without anything it notes what has to be done about that before the agent begins.
func (a *Agent) prepare() error {
	if a.opts.TLS != (mtls.Files{}) {
		return a.useFiles()
	}
	if a.opts.DataDir == "" {
		return errors.New("an agent in memory only (--data.dir is empty) cannot keep an identity: give it a data dir, or the three --tls files")
	}
	present, err := identity.In(a.opts.DataDir).Load()
	if err != nil {
		return fmt.Errorf("--data.dir %s: %w", a.opts.DataDir, err)
	}
	token, err := a.opts.enrollToken()
	switch {
	case len(present) == 0 && err != nil:
		return err
	case len(present) == 0 && token == nil:
		return fmt.Errorf("this agent belongs to no relay yet (there is no identity in --data.dir %s): on the relay's machine `relay-server agents token NAME` prints a join token, and here `relay-agent enroll TOKEN` takes it",
			a.opts.DataDir)
	case err != nil:
		a.logger.Warn("the join token is not looked at: the agent has an identity", slog.Any("err", err))
	}
	if token != nil && identity.ByAuthority(present, token.CA) == nil {
		a.enrolment = &enrolment{join: a.opts.join(a.client, token, present), once: len(present) > 0}
		return nil
	}
	return a.useIdentities(present, token)
}

// enrollToken returns the join token that was given; nil for none.
func (o *Options) enrollToken() (*enrol.Token, error) {
	text, from := o.EnrollToken, "$RELAY_ENROLL_TOKEN"
	if o.EnrollTokenFile != "" {
		raw, err := os.ReadFile(o.EnrollTokenFile)
		if err != nil {
			return nil, fmt.Errorf("--enroll.token-file: %w", err)
		}
		text, from = string(raw), "--enroll.token-file "+o.EnrollTokenFile
	}
	if text == "" && o.EnrollTokenFile == "" {
		return nil, nil
	}
	token, err := enrol.ParseToken(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return &token, nil
}

// useFiles takes the files of flags.
func (a *Agent) useFiles() error {
	// Also says that a certificate is expired, which a running agent would live with.
	if _, err := mtls.Load(mtls.Agent, a.opts.TLS); err != nil {
		return err
	}
	certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: a.opts.TLS, Logger: a.logger, Renewal: certificateRenewal})
	if err != nil {
		return err
	}
	id, err := mtls.PeerIDFromCertificate(certificates.Material().Leaf())
	if err != nil {
		return err
	}
	a.name, a.credentials = id.Agent, []*credential{{certificates: certificates, relays: a.opts.RelayAddresses}}
	return nil
}

// useIdentities takes the identities of the data dir, and a token for one whose relays refuse to renew it.
func (a *Agent) useIdentities(present []*identity.Identity, token *enrol.Token) error {
	dialled, err := assign(present, a.opts.RelayAddresses)
	if err != nil {
		return err
	}
	metrics := renewal.NewMetrics(a.registry)
	for _, id := range present {
		relays := dialled[id]
		if len(relays) == 0 {
			continue
		}
		logger := a.logger.With(slog.String("component", "identity"))
		certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: id.Files(), Logger: logger, Renewal: renewal.Advice})
		if err != nil {
			return err
		}
		cfg := renewal.Config{
			Identity: id, Certificates: certificates, Client: a.client, Relays: union(relays, id.Relays), Metrics: metrics, Logger: logger,
		}
		if token != nil && id.Trusts(token.CA) {
			cfg.Join = a.opts.join(a.client, token, []*identity.Identity{id})
			cfg.Join.Name = id.Agent.Agent
		}
		a.name = id.Agent.Agent
		a.credentials = append(a.credentials, &credential{certificates: certificates, relays: relays, keeper: renewal.New(cfg)})
	}
	return nil
}

// assign says which relays each identity is for: those that are asked for, or else its own.
func assign(present []*identity.Identity, asked []string) (map[*identity.Identity][]string, error) {
	dialled := map[*identity.Identity][]string{}
	count := 0
	for _, id := range present {
		if len(asked) == 0 {
			dialled[id] = id.Relays
			count += len(id.Relays)
		}
	}
	for _, address := range asked {
		id := identity.ByAddress(present, address)
		if id == nil && len(present) == 1 {
			id = present[0]
		}
		if id == nil {
			return nil, fmt.Errorf("--relay.address %s belongs to none of the agent's %d identities (%s): enrol with a token of that relay, or leave the flag out to have all relays dialled that they know",
				address, len(present), describe(present))
		}
		dialled[id] = append(dialled[id], address)
		count++
	}
	switch {
	case count == 0:
		return nil, errors.New("the agent's identities know no relay: give --relay.address")
	case count > spool.MaxRelays:
		return nil, fmt.Errorf("the agent's identities know %d relays, and %d can be dialled: name them by --relay.address", count, spool.MaxRelays)
	}
	return dialled, nil
}

// describe says which relays identities know.
func describe(present []*identity.Identity) string {
	var of []string
	for _, id := range present {
		of = append(of, strings.Join(id.Relays, ", "))
	}
	return strings.Join(of, "; ")
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// join returns an enrolment with the token, of an agent with the identities that are there.
func (o *Options) join(client *enrolclient.Client, token *enrol.Token, present []*identity.Identity) *enrolclient.Join {
	j := &enrolclient.Join{Client: client, Store: identity.In(o.DataDir), Token: token, Names: enrolclient.Names{Name: o.EnrollName}, Release: version.Version}
	if len(present) > 0 && identity.ByAuthority(present, token.CA) == nil && j.Name == "" {
		j.Name = present[0].Agent.Agent // all of a data dir are one agent
	}
	j.Otherwise = hostName()
	if id := identity.ByAuthority(present, token.CA); id != nil {
		j.Otherwise = id.Agent.Agent
	}
	return j
}

// hostName returns the name of this host as one of an agent; empty if it cannot be one.
func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return fitName(host)
}

// fitName returns a name of a host as one of an agent; empty if it cannot be one.
func fitName(host string) string {
	name := strings.ReplaceAll(strings.Trim(strings.ToLower(host), "."), "_", "-")
	if mtls.CheckAgentName(name) != nil {
		return ""
	}
	return name
}
