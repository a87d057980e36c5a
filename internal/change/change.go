// Package change is the one value of a push: what it does, to which group, with which body, when it came and who carries it; and how it
// ended. It is made where a push arrives, by HTTP or through the tunnel, and goes down to the store as it is; an [Outcome] comes back.
//
// The package is values alone. Start reading at [Change] and [Outcome].
package change

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"pushrelay/internal/addup"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
)

// Operation is what a change does with its group.
type Operation uint8

// The operations. The zero value is none of them, so that a forgotten operation is never taken for another. Their numbers are those of the
// agent's journal and of the store's log. Those from Wipe to Expire are the relay's own: no push asks for them.
const (
	// Replace makes the pushed metric families all that the group has (PUT).
	Replace Operation = iota + 1
	// Merge replaces the metric families of the same names and keeps the others (POST).
	Merge
	// Delete removes the group (DELETE).
	Delete
	// Fail only notes in the group that a push to it was rejected, by an agent that saw it (T19). It has no body.
	Fail
	// Wipe removes all groups. It names none.
	Wipe
	// Mark moves the mark of an origin in a group, which need not be there, and does nothing else. It is what becomes of a change that is
	// refused.
	Mark
	// Forget drops the traces of a journal up to the sequence of the origin: its agent will never send again what is numbered up to there. It
	// names no group.
	Forget
	// Expire removes what is expired of a group, if it still is (L8). The store's log has what follows instead.
	Expire
	// MergeSeries replaces single series and keeps the others of their families, and Add adds to them (L11, L12). The store's log has the
	// families that come of it instead.
	MergeSeries
	Add
)

// IsPush says whether a push may ask for that operation, over HTTP or from an agent.
func (o Operation) IsPush() bool { return o >= Replace && o <= Fail || o.IsOnto() }

// HasBody says whether a change of that operation has a body.
func (o Operation) HasBody() bool { return o == Replace || o == Merge || o.IsOnto() }

// IsOnto says whether what becomes of a family depends on what the group has of it.
func (o Operation) IsOnto() bool { return o == MergeSeries || o == Add }

// String returns the operation's name for logs and metric labels.
func (o Operation) String() string {
	switch o {
	case Replace:
		return "replace"
	case Merge:
		return "merge"
	case Delete:
		return "delete"
	case Fail:
		return "fail"
	case Wipe:
		return "wipe"
	case Mark:
		return "mark"
	case Forget:
		return "forget"
	case Expire:
		return "expire"
	case MergeSeries:
		return "merge series"
	case Add:
		return "add"
	default:
		return "operation " + strconv.Itoa(int(o))
	}
}

// Change is one push. Whoever it is handed to only reads it, and keeps nothing of it once the outcome is known.
type Change struct {
	Operation Operation
	// Key is the grouping key as it was pushed, without the agent label.
	Key grouping.Key
	// Format is the exposition format of Body.
	Format exposition.Format
	// Body is the exposition with its content encoding removed; empty for an operation without one. It is never changed.
	Body []byte
	// At is when the push arrived: what push_time_seconds will say.
	At time.Time
	// Owner tells groups of the agent's own from those of jobs, at the agent; empty for a job's.
	Owner string
	// Agent is the identity of the agent that the push came through; empty for a direct push.
	Agent string
	// Epoch is that of the session that carried the push, in a cluster: who decides knows by it whether the session is still current (C12). 0 for
	// none.
	Epoch int64
	// Origin is where the push comes from, so that it is applied exactly once; nil for a push that nobody sends twice.
	Origin *Origin
	// Once makes the push happen once, if it is pushed again (L13); nil for a push without a key of its own. Only direct pushes have it.
	Once *Once
	// Refused is why whoever carried the push refuses it for good; nil for a push that is to be judged. Of a refused one
	// only the origin is kept: this error is the outcome once that is durable.
	Refused error
	// Waited says that the agent took the push before the session that carried it began. Another process of its identity, or
	// another copy of its data dir, may have been at work meanwhile: only such a push can be superseded.
	Waited bool
	// MayBeHidden says that nobody waits for the push to fit, and that its key was not chosen by who wrote the body: a family that does not fit is
	// kept and not exposed until it does (S9), instead of the push being refused; and what its samples have of the key's labels is kept as
	// exported_…, as at a scrape. So are text files pushed.
	MayBeHidden bool
	// Life is what the push says of its group's life (L1); none for an operation without a body.
	Life lifetime.Declaration
	// Failed is why the job failed that pushes, by its own account (L4); empty if it did not. No operation without a body has it, and it has
	// no more than [MaxFailedBytes].
	Failed string
	// Gauges says what Add does with gauges; Last for other operations.
	Gauges addup.Gauges
	// Version is what groupstore.Group.Version said of the group, if the change is for the group as it was then; 0 if it is for whatever the group is.
	Version uint64
	// Current says whether what carried the push may still change groups (T3); nil for always. It is asked again in the moment in
	// which the push would take effect, under a lock of the store, so the function must neither block nor call the store.
	Current func() bool
}

// Origin identifies a push together with the agent's identity, which is that of the change and never one that a peer fills in, for exactly once
// (T11, T12). Without an agent it is of a relay that handed a direct push on to another one (C11).
type Origin struct {
	// Journal is the agent's journal, or the incarnation of the relay.
	Journal [16]byte
	// Sequence rises strictly within the journal, from 1, with gaps.
	Sequence uint64
	// Digest tells two pushes apart that have the same number, because a journal was copied or restored. It is opaque.
	Digest Digest
	// After is the number of the push before this one in the journal and the group, of which whoever sends does not know yet how it ended; 0 if that is
	// known, or there is none. Unless it was taken, this push is [OutOfTurn]: what the group keeps of a journal tells how the last push ended, and
	// only so that those before it were taken.
	After uint64
}

// Once identifies a direct push within its group.
type Once struct {
	// Key is a hash of what the pusher calls the push.
	Key [16]byte
	// Digest tells another push with the same key apart.
	Digest Digest
}

// NewOnce returns what identifies a push that its pusher calls by that key. The push is complete.
func NewOnce(key string, c *Change) *Once {
	sum := sha256.Sum256([]byte(key))
	return &Once{Key: [16]byte(sum[:16]), Digest: DigestOf(c)}
}

// Digest stands for a push: what it does, to which group, with which body.
type Digest [16]byte

// MaxFailedBytes bounds Change.Failed.
const MaxFailedBytes = 1 << 10

// FailedText returns a text as Change.Failed has it: UTF-8, in one line of at most [MaxFailedBytes]. It goes into logs, JSON and pages.
func FailedText(text string) string {
	line := strings.TrimSpace(strings.Map(inLine, strings.ToValidUTF8(text, "?")))
	if len(line) > MaxFailedBytes {
		line = exposition.Clip(line, MaxFailedBytes-len("…"))
	}
	return line
}

// inLine returns a blank for what ends a line or controls a terminal.
func inLine(r rune) rune {
	if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
		return ' '
	}
	return r
}

// AddedBy returns the change as a rule wants it that is about its group: a POST, and if the rule says so a PUT, adds; and adding does with gauges
// what the rule says. Nil stands for no rule. A push that replaces single series, and a DELETE, stay what they are (L11).
func (c *Change) AddedBy(rule *addup.Rule) *Change {
	if rule == nil || c.Operation != Add && c.Operation != Merge && (c.Operation != Replace || !rule.Put) {
		return c
	}
	adding := *c
	adding.Operation, adding.Gauges = Add, rule.Gauges
	return &adding
}

// DigestOf returns the digest of a push: the first 16 bytes of the SHA-256 of operation, grouping key, body and, where there is any of it, what
// the push says of its group's life, of its job's failure and of gauges.
func DigestOf(c *Change) Digest {
	h := sha256.New()
	key := c.Key.Canonical()
	h.Write([]byte{byte(c.Operation)})
	h.Write(binary.AppendUvarint(nil, uint64(len(key))))
	h.Write([]byte(key))
	h.Write(c.Body)
	if !c.Life.IsZero() || c.Failed != "" || c.Gauges != addup.Last {
		t := c.Life.Texts()
		fmt.Fprintf(h, "%q %v", []string{t.TTL, t.Every, t.Schedule, t.Grace, c.Failed}, c.Gauges)
	}
	return Digest(h.Sum(nil)[:16])
}
