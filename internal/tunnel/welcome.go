package tunnel

import (
	"fmt"
	"math"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/history"
	"pushrelay/internal/metric"
	"pushrelay/internal/target"
)

// MaxJournals bounds the journals that an agent may ask after when it attaches: its own, and a few that it gave up while
// the relay was away.
const MaxJournals = 16

// JournalState is how far a relay decided a journal (T12).
type JournalState struct {
	Journal [16]byte
	// Decided is the highest sequence that the relay decided, 0 if none. Lower ones of other groups may be undecided.
	Decided uint64
	// Digest is that of the change with that number.
	Digest change.Digest
}

// SpoolState is what waits at an agent for one relay.
type SpoolState struct {
	// Pending counts the changes that the relay has not decided.
	Pending uint64
	// DecidedThrough is the sequence of Journal up to which every change is decided and will never be sent again.
	DecidedThrough uint64
	// Journal is the agent's current journal; zero while it has none.
	Journal [16]byte
	// CopyAt is the address of another relay that the agent has a session with, and that has a copy of the same store; empty if there
	// is none.
	CopyAt string
}

// Welcome is what a relay says of itself to an agent that attaches.
type Welcome struct {
	// StoreID identifies the relay's store (T17).
	StoreID [16]byte
	// Limits are those that the relay applies to what the agent sends, a zero for none. MaxInflightBytes is not among them.
	Limits exposition.Limits
	// AgentLabel is the grouping label that the relay adds; empty for none.
	AgentLabel string
	// Names says which label names the relay takes.
	Names metric.NameScheme
	// OwnFamilies are the types, by name, of the families that the relay exposes beside the groups and does not take with another type; nil
	// for a relay that tells none.
	OwnFamilies map[string]metric.Type
	// Journals are those that the agent asked after and that the relay has met.
	Journals []JournalState
	// History is where the store has been; zero for a relay that does not tell.
	History history.History
}

// WelcomeFromProto fails if the relay breaks the protocol.
func WelcomeFromProto(w *relayv1.Welcome) (Welcome, error) {
	out := Welcome{Limits: limitsFromProto(w.GetLimits()), Names: metric.LegacyNames, OwnFamilies: ownFamiliesFromProto(w.GetOwnFamilies())}
	if label := w.GetLimits().GetAgentLabel(); len(label) <= MaxNameBytes && metric.IsLegacyLabelName(label) {
		out.AgentLabel = label
	}
	if w.GetLimits().GetUtf8Names() {
		out.Names = metric.UTF8Names
	}
	if len(w.GetStoreId()) != len(out.StoreID) {
		return Welcome{}, fmt.Errorf("the relay's store id has %d bytes, want %d", len(w.GetStoreId()), len(out.StoreID))
	}
	copy(out.StoreID[:], w.GetStoreId())
	for _, j := range w.GetJournals() {
		state, err := journalFromProto(j)
		if err != nil {
			return Welcome{}, err
		}
		out.Journals = append(out.Journals, state)
	}
	var err error
	out.History, err = historyFromProto(w.GetHistory())
	return out, err
}

// JournalToProto returns the state as it travels.
func JournalToProto(j JournalState) *relayv1.JournalState {
	return &relayv1.JournalState{JournalId: j.Journal[:], HighestDecided: j.Decided, Digest: j.Digest[:]}
}

func journalFromProto(j *relayv1.JournalState) (JournalState, error) {
	if len(j.GetJournalId()) != 16 || len(j.GetDigest()) != len(change.Digest{}) {
		return JournalState{}, fmt.Errorf("the relay speaks of a journal with an id of %d and a digest of %d bytes, want 16 each", len(j.GetJournalId()), len(j.GetDigest()))
	}
	return JournalState{Journal: [16]byte(j.GetJournalId()), Decided: j.GetHighestDecided(), Digest: change.Digest(j.GetDigest())}, nil
}

// JournalIDsToProto returns the ids of journals as a hello carries them: the first [MaxJournals] of them.
func JournalIDsToProto(journals [][16]byte) [][]byte {
	var ids [][]byte
	for i := range journals[:min(len(journals), MaxJournals)] {
		ids = append(ids, journals[i][:])
	}
	return ids
}

// JournalIDsFromProto returns the journals that a hello asks after.
func JournalIDsFromProto(ids [][]byte) ([][16]byte, error) {
	if len(ids) > MaxJournals {
		return nil, fmt.Errorf("the hello asks after %d journals, and %d are allowed", len(ids), MaxJournals)
	}
	var journals [][16]byte
	for _, id := range ids {
		if len(id) != 16 {
			return nil, fmt.Errorf("the hello asks after a journal whose id has %d bytes, want 16", len(id))
		}
		journals = append(journals, [16]byte(id))
	}
	return journals, nil
}

// SpoolToProto returns the state as it travels.
func SpoolToProto(s SpoolState) *relayv1.SpoolState {
	p := &relayv1.SpoolState{PendingChanges: s.Pending, CopyAt: s.CopyAt}
	if s.Journal != ([16]byte{}) {
		p.DecidedThrough, p.JournalId = s.DecidedThrough, s.Journal[:]
	}
	return p
}

// SpoolFromProto returns the state without a journal if the one that came is malformed: what it says of it cannot be used.
func SpoolFromProto(p *relayv1.SpoolState) SpoolState {
	s := SpoolState{Pending: p.GetPendingChanges(), CopyAt: Text(p.GetCopyAt())}
	if len(p.GetJournalId()) == len(s.Journal) {
		s.DecidedThrough, s.Journal = p.GetDecidedThrough(), [16]byte(p.GetJournalId())
	}
	return s
}

// LimitsToProto returns the limits of pushes as the relay announces them.
func LimitsToProto(l exposition.Limits) *relayv1.Limits {
	return &relayv1.Limits{
		MaxBodyBytes:             uint64(l.MaxBodyBytes),
		MaxDecompressedBytes:     uint64(l.MaxDecompressedBytes),
		MaxSeries:                uint32(l.MaxSeries),
		MaxLabels:                uint32(l.MaxLabels),
		MaxLabelLength:           uint32(l.MaxLabelLength),
		MaxUnacknowledgedBytes:   MaxUnacknowledgedBytes,
		MaxUnacknowledgedChanges: MaxUnacknowledgedChanges,
		MaxTargets:               target.MaxTargets,
	}
}

func limitsFromProto(l *relayv1.Limits) exposition.Limits {
	return exposition.Limits{
		MaxBodyBytes:         int64(min(l.GetMaxBodyBytes(), math.MaxInt64)),
		MaxDecompressedBytes: int64(min(l.GetMaxDecompressedBytes(), math.MaxInt64)),
		MaxSeries:            int(l.GetMaxSeries()),
		MaxLabels:            int(l.GetMaxLabels()),
		MaxLabelLength:       int(l.GetMaxLabelLength()),
	}
}
