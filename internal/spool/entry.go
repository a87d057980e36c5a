package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/lifetime"
)

// entry is one push that was accepted. Its fields are guarded by Spool.mu; bodies are immutable and replaced whole.
type entry struct {
	group *group
	// older and newer are its neighbours in groups.order.
	older, newer *entry

	sequence  uint64 // within the current journal
	operation change.Operation
	gauges    addup.Gauges // what Add does with gauges
	format    exposition.Format
	body      []byte // compressed by S2
	bodyBytes int    // before that
	families  []uint64
	// pushedAt has a monotonic reading, so that its age is right whatever the clock does meanwhile. One from an earlier life has
	// the wall clock alone.
	pushedAt time.Time
	owner    string
	failed   string // why the job failed that pushed; see change.Change
	// life is what the push said of its group's life, with what changes before it said that are gone (L1). Of a deletion, which says
	// nothing itself, it is what takes that back: the relay does so by itself, and a PUT that makes the deletion pointless has to say it.
	life lifetime.Declaration
	// digest is that of the push as it was accepted. It stays when families are cut out of a body that waits: it says which push
	// this is, not which bytes travel.
	digest change.Digest
	later  string // fields of a later release

	// from is the sequence of the oldest change that the entry is made of, its own if no other but its body or what it says is not what the
	// journal has under its number; 0 if it is. See groups.addUp.
	from uint64
	// apart is the change before it that it could not be added to; nil if that was not tried.
	apart *entry

	undecided relays // those that have still to decide it
	// anew are those of them of which nobody knows what they have of the group: they get what its families come to (L14).
	anew relays
	// sent are those of them that it may have reached. Their verdict is in doubt until it comes; until then the change stays as it
	// is.
	sent    relays
	applied bool // by some relay
	// pointless says that newer changes made it so; compact says it, for itself.
	pointless bool
	// kept says that it is a deletion that all relays have decided, and that is kept for stores that were put back or not met.
	kept    bool
	hidden  string  // what of it a relay does not expose; empty if nothing is known of that
	answer  *answer // the pusher who waits; nil if none does
	durable *receipt
}

// identity tells the change from any other, also from one with the same content that another spool gave the same number: the
// two were not accepted at the same moment. It is what relays know as the digest.
func (c *entry) identity() change.Digest {
	h := sha256.New()
	h.Write(c.digest[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(c.pushedAt.UnixNano())))
	return change.Digest(h.Sum(nil)[:len(change.Digest{})])
}

// overheadBytes is about the memory of a change beside its body, families and key.
const overheadBytes = 384

func (c *entry) bytes() int64 {
	return int64(len(c.body) + 8*len(c.families) + len(c.owner) + len(c.failed) + len(c.life.Schedule) + len(c.later) + overheadBytes)
}

// isContent says that the change is a push and no note of a failed one.
func (c *entry) isContent() bool { return c.operation != change.Fail }

// isBase says that nothing before the change matters after it.
func (c *entry) isBase() bool { return c.operation == change.Replace || c.operation == change.Delete }

// isFixed says that the change must stay as it is: somebody waits for its verdict, or a relay may be deciding it.
func (c *entry) isFixed() bool { return c.answer != nil || c.sent&c.undecided != 0 }

// push returns the push as it is to be sent, without its body.
func (c *entry) push() *change.Change {
	r := &change.Change{Operation: c.operation, Key: c.group.key, Format: c.format, At: c.pushedAt, MayBeHidden: c.owner != ""}
	if c.operation.HasBody() {
		r.Life, r.Failed, r.Gauges = c.life, c.failed, c.gauges
	}
	return r
}

// request returns the push as it is to be sent, its body appended to buf[:0].
func (c *entry) request(buf []byte) (*change.Change, error) {
	r := c.push()
	if c.bodyBytes == 0 {
		return r, nil
	}
	buf = slices.Grow(buf[:0], c.bodyBytes)
	body, err := s2.Decode(buf[:c.bodyBytes], c.body)
	if err != nil || len(body) != c.bodyBytes {
		return nil, fmt.Errorf("decompressing a body of the spool: %w", err)
	}
	r.Body = body
	return r, nil
}

// scratches are buffers for bodies that are compressed. What is kept of one is copied: it is several times smaller than the
// room that the encoder wants.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

// compress returns a body as it is kept; nil for an empty one.
func compress(body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	*scratch = slices.Grow((*scratch)[:0], max(0, s2.MaxEncodedLen(len(body))))
	return bytes.Clone(s2.Encode((*scratch)[:cap(*scratch)], body))
}

// familiesOf returns what stands for the names of a body's metric families, in order. A collision makes two families of one
// group one, and needs 2^32 names in it.
func familiesOf(b *exposition.Body) []uint64 {
	hashes := make([]uint64, 0, len(b.Families))
	for i := range b.Families {
		hashes = append(hashes, hashOf(b.Families[i].Name))
	}
	slices.Sort(hashes)
	return slices.Compact(hashes)
}

func hashOf(name []byte) uint64 {
	h := fnv.New64a()
	h.Write(name)
	return h.Sum64()
}

// relays is a set of relays, by their slots.
type relays uint32

// maxRelays is how many relays the spool can tell apart.
const maxRelays = 32

func of(slot int) relays { return 1 << slot }

func (r relays) has(slot int) bool { return r&of(slot) != 0 }

// each calls f for each of the set, by its slot.
func (r relays) each(f func(slot int)) {
	for r != 0 {
		slot := bits.TrailingZeros32(uint32(r))
		f(slot)
		r &^= of(slot)
	}
}
