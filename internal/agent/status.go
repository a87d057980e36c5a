package agent

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/grouping"
	"pushrelay/internal/spool"
	"pushrelay/internal/targets"
	"pushrelay/internal/textfile"
)

// status tells programs, and relay-agent's own commands, how the agent is.
func (a *Agent) status(w http.ResponseWriter, _ *http.Request) { answer(w, a.currentStatus()) }

func (a *Agent) currentStatus() agentapi.Status {
	spooled := a.spool.Status()
	st := agentapi.Status{
		Agent: a.name, Version: version.Version, StartTime: a.startedAt.UTC(), Identities: a.identities(), Relays: []agentapi.Relay{}, Targets: []agentapi.Target{}, Spool: describeSpool(spooled),
		TargetsMissing: a.discovery.Missing(), Textfiles: a.badTextfiles(),
	}
	for _, link := range a.links {
		l := link.Status()
		st.Relays = append(st.Relays, agentapi.Relay{
			Address: l.Address, Connected: l.Connected, Since: l.Since.UTC(), RoundTripSeconds: l.RoundTrip.Seconds(),
			Version: l.RelayVersion, LastError: l.LastError, Revoked: l.Revoked, TargetsDenied: l.Denied.String(), Pending: spooled.Pending(l.Address), Note: spooled.Note(l.Address),
		})
	}
	for _, t := range a.discovery.Targets() {
		st.Targets = append(st.Targets, describeTarget(t))
	}
	return st
}

// identities returns those that the agent renews.
func (a *Agent) identities() []agentapi.Identity {
	all := []agentapi.Identity{}
	for _, c := range a.credentials {
		if c.keeper == nil {
			continue
		}
		st := c.keeper.Status()
		one := agentapi.Identity{
			Authority: st.Authority.String(), Relays: c.relays, CertificateNotAfter: st.NotAfter.UTC(), RenewalDue: st.Due.UTC(), LastError: st.LastError, Revoked: st.Revoked,
		}
		if at := st.LastAttempt.UTC(); !at.IsZero() {
			one.LastAttempt = &at
		}
		all = append(all, one)
	}
	return all
}

// describeTarget returns a target as the status tells it.
func describeTarget(t targets.Target) agentapi.Target {
	out := agentapi.Target{
		Target: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, Labels: make(map[string]string, len(t.Labels)),
		LastDurationSeconds: t.LastScrape.Duration.Seconds(), LastStatus: t.LastScrape.Status, LastError: t.LastScrape.Error,
	}
	for _, l := range t.Labels {
		out.Labels[l.Name] = l.Value
	}
	if at := t.LastScrape.At.UTC(); !at.IsZero() {
		out.LastScrape = &at
	}
	return out
}

// badTextfiles returns the text files that are not exposed as they are: refused here or by a relay, or hidden by one.
func (a *Agent) badTextfiles() []agentapi.Textfile {
	bad := []agentapi.Textfile{}
	for _, fault := range a.textfiles.Faults() {
		bad = append(bad, agentapi.Textfile{Path: fault.Path, Reason: fault.Err.Error()})
	}
	for key, why := range a.spool.Hidden(textfile.Owner) {
		if path, ok := a.textfiles.FileOf(key); ok {
			bad = append(bad, agentapi.Textfile{Path: path, Reason: "hidden by the relay: " + why})
		}
	}
	slices.SortStableFunc(bad, func(x, y agentapi.Textfile) int { return cmp.Compare(x.Path, y.Path) })
	return bad
}

// pushedTextfiles returns the paths of the text files whose groups are pushed.
func (a *Agent) pushedTextfiles() []string {
	var paths []string
	for key := range a.spool.Owned(textfile.Owner) {
		if path, ok := a.textfiles.FileOf(key); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// answer writes the data of a route of the API.
func answer(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) //nolint:errcheck,errchkjson // Whoever does not read the answer asks again.
}

// describeSpool returns the spool as the status tells it.
func describeSpool(st spool.Status) agentapi.Spool {
	s := agentapi.Spool{Bytes: st.Bytes, MaxBytes: st.MaxBytes, Entries: st.Entries, Journal: st.Journal.String(), Writable: st.Failure == nil}
	if !st.Oldest.IsZero() {
		s.OldestSeconds = max(0, time.Since(st.Oldest).Seconds())
	}
	if st.Failure != nil {
		s.Error = st.Failure.Error()
	}
	return s
}

// spoolContent tells what waits, for which relay, and what was lost.
func (a *Agent) spoolContent(w http.ResponseWriter, _ *http.Request) { answer(w, a.currentSpool()) }

func (a *Agent) currentSpool() agentapi.SpoolContent {
	content := agentapi.SpoolContent{Relays: []agentapi.SpoolRelay{}, Groups: []agentapi.SpoolGroup{}, Rejections: []agentapi.SpoolRejection{}}
	for _, r := range a.spool.Status().Relays {
		if len(r.Addresses) == 0 {
			continue // Nothing waits for a store that is gone: what it would have got, the one after it gets.
		}
		content.Relays = append(content.Relays, agentapi.SpoolRelay{Addresses: append([]string{}, r.Addresses...), StoreID: r.Store.String(), Pending: r.Pending})
	}
	for _, p := range a.spool.Pending() {
		content.Groups = append(content.Groups, agentapi.SpoolGroup{
			GroupingKey: labelsOf(p.Key), Relay: p.Relay, Changes: p.Changes, Bytes: p.Bytes, Oldest: p.Oldest.UTC(),
		})
	}
	for _, r := range a.spool.Rejections() {
		content.Rejections = append(content.Rejections, agentapi.SpoolRejection{
			At: r.At.UTC(), Relay: r.Relay, GroupingKey: labelsOf(r.Key), Operation: r.Operation.String(), PushedAt: r.PushedAt.UTC(), Reason: r.Reason,
		})
	}
	return content
}

func labelsOf(key grouping.Key) map[string]string {
	labels := map[string]string{}
	for _, l := range key.Labels() {
		labels[l.Name] = l.Value
	}
	return labels
}
