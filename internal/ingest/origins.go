package ingest

import (
	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// originOf returns the push's origin as the store knows it. Journals of different agents are different sources, whatever
// their ids are: no agent can speak for another's.
func originOf(r *change.Change) *groupstore.Origin {
	if r.Origin == nil {
		return nil
	}
	return &groupstore.Origin{Source: sourceOf(r.Agent, r.Origin.Journal), Sequence: r.Origin.Sequence, Digest: r.Origin.Digest}
}

// sourceOf returns the name of an agent's journal in the store. No identity contains the byte between the two.
func sourceOf(agent string, journal [16]byte) string { return agent + "\x00" + string(journal[:]) }

// Decided returns how far the agent's journal was decided, and the digest of the push with that number; ok is false if the
// store has nothing of the journal.
func (in *Ingester) Decided(agent string, journal [16]byte) (sequence uint64, digest change.Digest, ok bool) {
	return in.cfg.Store.Decided(sourceOf(agent, journal))
}

// Forget says that the agent will never send pushes of that journal again that are numbered up to through.
func (in *Ingester) Forget(agent string, journal [16]byte, through uint64) {
	in.cfg.Store.Forget(sourceOf(agent, journal), through)
}
