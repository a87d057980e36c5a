package ingest

import (
	"context"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
)

// Decided returns how far the agent's journal was decided, and the digest of the push with that number; ok is false if the
// store has nothing of the journal.
func (in *Ingester) Decided(agent string, journal [16]byte) (sequence uint64, digest change.Digest, ok bool) {
	return in.cfg.Store.Decided(agent, journal)
}

// Forget says that the agent will never send pushes of that journal again that are numbered up to through.
func (in *Ingester) Forget(agent string, journal [16]byte, through uint64) {
	c := &change.Change{Operation: change.Forget, Agent: agent, Origin: &change.Origin{Journal: journal, Sequence: through}}
	in.cfg.Store.Apply(context.Background(), c, groupstore.Content{}) // it waits for nothing
}
