package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/policy"
	"pushrelay/internal/queryapi"
	"pushrelay/internal/recent"
	"pushrelay/internal/web"
)

// newPages returns the pages that people look at.
func (s *Server) newPages(prefix string, external *url.URL) *web.Handler {
	dataDir := ""
	if s.authority != nil {
		dataDir = s.durability.dataDir
		if whole, err := filepath.Abs(dataDir); err == nil { // it is read in another directory
			dataDir = whole
		}
	}
	var cluster func() *web.ClusterView
	if s.cluster != nil {
		cluster = s.cluster.page
	}
	return web.New(web.Config{
		Cluster: cluster,
		Store:   s.store, Agents: s.agents, Recent: s.recent, Deleter: s.groups, Rights: s.rights, Health: s.health, AgentTerms: s.agentTerms,
		AgentLabel: s.opts.AgentLabel, Flags: s.opts.Flags, Build: queryapi.Build(), StartedAt: s.startedAt,
		TelemetryPath: s.opts.TelemetryPath, RoutePrefix: prefix, ExternalURL: external, AgentsPort: s.grpcPort(), DataDir: dataDir, Names: s.opts.names(),
		Logger: s.logger.With(slog.String("component", "web")),
	})
}

// rights says what whoever asks for a page may see and change: what the policy file lets them, and to change something only where the admin API
// is on.
func (s *Server) rights(r *http.Request) web.Rights {
	user := policy.UserOf(r.Context())
	who := s.identityOf(r)
	rights := web.Rights{Who: strings.Join(append([]string{who.User}, who.Certificate...), "\x00"), Nothing: denial(user.Anything())}
	rights.SeesGroup, rights.SeesTarget, rights.HidesStatus = user.Reading(), user.Sight(), !user.SeesStatus()
	if !s.opts.EnableAdminAPI {
		rights.Refusal = "Deleting needs the admin API: start the relay with --web.enable-admin-api."
		return rights
	}
	rights.OffersDeletion, rights.OffersForgetting = user.MayDelete, user.IsAdmin()
	rights.Delete = func(key grouping.Key) error { return denial(user.Delete(key)) }
	rights.Forget = func(string) error { return denial(user.Admin("forget agents")) }
	return rights
}

// denial returns a refusal as an error in the words that who is refused reads; nil for none.
func denial(refused *policy.Refusal) error {
	if refused == nil {
		return nil
	}
	return errors.New(refused.Denial())
}

// agentTerms says what an agent may have, for the pages.
func (s *Server) agentTerms(agent string) web.AgentTerms {
	limits, is := s.limitsOf(agent), s.guard.Agent(agent)
	terms := web.AgentTerms{MaxGroups: limits.Groups, MaxSeries: limits.Series}
	if !is.IsFree() {
		terms.Policy = []string{
			"What it may push, serve and have stands at " + is.Rule() + ".",
			fmt.Sprintf("Its quotas are those of %s and %s.", limits.GroupsBy, limits.SeriesBy),
		}
	}
	return terms
}

// health says how the relay is, for the pages.
func (s *Server) health() web.Health {
	var h web.Health
	if err := s.durability.Failure(); err != nil {
		h.StoreFailure = err.Error()
	}
	for _, loss := range s.durability.Losses() {
		h.Losses = append(h.Losses, loss.String())
	}
	if s.certificates != nil {
		h.CertificateNotAfter = s.certificates.NotAfter()
	}
	return h
}

// refused notes a push for the pages that did not come to the store.
func (s *Server) refused(op change.Operation, key grouping.Key, o change.Outcome) {
	s.recent.Pushed(key, recent.Push{At: time.Now(), Operation: op, Kind: o.Kind, Detail: o.Detail})
}

// decided notes a push for the pages.
func (s *Server) decided(c *change.Change, o change.Outcome, took time.Duration) {
	s.recent.Pushed(c.Key, recent.Push{
		At: time.Now(), Operation: c.Operation, Kind: o.Kind, Detail: o.Detail, Duplicate: o.Duplicate, Bytes: len(c.Body), Took: took,
	})
}
