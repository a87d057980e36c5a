// Package recent remembers what happened of late, for people who look: scrapes and bytes of each agent and of all, minute by minute for an
// hour, the last pushes of each group, and the last of all that were refused.
//
// It promises to stay within its bytes, whatever happens how often: of whom nothing was heard for the longest time is forgotten first. It is
// in memory only, and begins anew with the process. It reads the clock, and knows neither stores nor sessions. Start reading at [Recent].
package recent

import (
	"slices"
	"strings"
	"sync"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
)

const (
	// Minutes is how many points there are, of a minute each.
	Minutes = 60
	// PushesPerGroup is how many pushes are remembered of a group.
	PushesPerGroup = 5

	// maxBytes bounds what agents and groups take, by its own account. With what was refused it is 32 MiB.
	maxBytes = 32<<20 - maxRefusalBytes
	// maxDetailBytes bounds what is remembered of why a push was not taken.
	maxDetailBytes = 300
)

// A Minute is what happened in one minute.
type Minute struct {
	Scrapes, FailedScrapes uint32
	// Bytes are those of the bodies of scrapes.
	Bytes uint64
}

// An Hour is the minutes up to the present one, which is the last.
type Hour [Minutes]Minute

// PushMinute is what was pushed in one minute.
type PushMinute struct{ Taken, Refused uint32 }

// PushHour is as Hour, of pushes.
type PushHour [Minutes]PushMinute

// A Push is one that was decided, or put off.
type Push struct {
	// At is when that was.
	At        time.Time
	Operation change.Operation
	// Kind is how it ended, and Detail what was said of it; empty for nothing.
	Kind   change.Kind
	Detail string
	// Duplicate says that it had been decided before.
	Duplicate bool
	// Bytes are those of its body, and Took how long it took to decide.
	Bytes int
	Took  time.Duration
}

// IsTaken says whether the push is in the store.
func (p Push) IsTaken() bool { v, _ := p.Kind.Verdict(); return v == change.Taken }

// Recent remembers. It is safe for concurrent use and starts nothing.
type Recent struct {
	maxBytes int

	mu     sync.Mutex
	agents map[string]*entry // guarded by mu, as all below
	groups map[string]*entry // by canonical key
	bytes  int               // of all entries
	noted  entry             // the ring of all entries, in the order in which they were noted last: next is the newest
	pushes ring[PushMinute]
	all    ring[Minute]

	refusals refusals // guarded by mu
}

// An entry is what is known of one agent or one group. It is guarded by Recent.mu.
type entry struct {
	key        string
	prev, next *entry
	minutes    *ring[Minute] // of an agent
	pushes     []push        // of a group, the newest last
	bytes      int           // what all of it takes
}

// push is a Push in less memory.
type push struct {
	at        int64  // nanoseconds since the epoch
	took      uint32 // microseconds
	bytes     uint32
	operation change.Operation
	kind      change.Kind
	duplicate bool
	detail    string
}

// What entries take beside what they hold: the entry, its slot in a map, and what the allocator adds.
const (
	entryBytes = 160
	ringBytes  = Minutes*16 + 32
	pushBytes  = 40
)

// New returns one that remembers nothing yet.
func New() *Recent {
	r := &Recent{maxBytes: maxBytes, agents: map[string]*entry{}, groups: map[string]*entry{}}
	r.noted.prev, r.noted.next = &r.noted, &r.noted
	return r
}

// Scraped notes a scrape of one of the agent's targets that has ended, with the bytes of its body. Fault is why it failed; empty if it did not.
func (r *Recent) Scraped(agent string, bytes int64, fault string) {
	minute := minuteOf(time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.take(r.agents, agent)
	if e.minutes == nil {
		e.minutes = &ring[Minute]{}
		r.grow(e, ringBytes)
	}
	for _, point := range []*Minute{e.minutes.at(minute), r.all.at(minute)} {
		point.Scrapes++
		point.Bytes += uint64(max(bytes, 0))
		if fault != "" {
			point.FailedScrapes++
		}
	}
	r.shrink()
}

// Pushed notes how a push to a group ended. The key is that of the store; the zero key is a push to no group.
func (r *Recent) Pushed(key grouping.Key, p Push) {
	r.mu.Lock()
	defer r.mu.Unlock()
	point := r.pushes.at(minuteOf(p.At))
	if p.IsTaken() {
		point.Taken++
	} else {
		point.Refused++
		r.refusals.note(key, p)
	}
	if key.IsZero() {
		return
	}
	e := r.take(r.groups, key.Canonical())
	r.note(e, push{
		at: p.At.UnixNano(), took: uint32(min(max(p.Took.Microseconds(), 0), 1<<32-1)), bytes: uint32(min(p.Bytes, 1<<32-1)),
		operation: p.Operation, kind: p.Kind, duplicate: p.Duplicate, detail: cut(p.Detail),
	})
	r.shrink()
}

// note adds a push to what is known of a group. The caller holds mu.
func (r *Recent) note(e *entry, p push) {
	if len(e.pushes) == PushesPerGroup {
		r.grow(e, -len(e.pushes[0].detail))
		copy(e.pushes, e.pushes[1:])
		e.pushes[PushesPerGroup-1] = p
	} else {
		grown := make([]push, len(e.pushes)+1) // most groups that are pushed to at all get there soon, and those that are not stay small
		copy(grown, e.pushes)
		grown[len(e.pushes)] = p
		e.pushes = grown
		r.grow(e, pushBytes)
	}
	r.grow(e, len(p.detail))
}

// cut returns a detail that keeps nothing of what it was cut from.
func cut(detail string) string {
	if len(detail) <= maxDetailBytes {
		return strings.Clone(detail)
	}
	return strings.ToValidUTF8(detail[:maxDetailBytes], "") + "…"
}

// take returns the entry of a key, a new one if there is none, as the one that was noted last. The caller holds mu.
func (r *Recent) take(in map[string]*entry, key string) *entry {
	e := in[key]
	if e == nil {
		e = &entry{key: strings.Clone(key)}
		in[e.key] = e
		r.grow(e, entryBytes+len(key))
	} else {
		e.prev.next, e.next.prev = e.next, e.prev
	}
	e.prev, e.next = &r.noted, r.noted.next
	e.prev.next, e.next.prev = e, e
	return e
}

func (r *Recent) grow(e *entry, bytes int) {
	e.bytes += bytes
	r.bytes += bytes
}

// shrink forgets until all is within the bound. The caller holds mu.
func (r *Recent) shrink() {
	for r.bytes > r.maxBytes {
		e := r.noted.prev
		e.prev.next, e.next.prev = e.next, e.prev
		r.bytes -= e.bytes
		if e.minutes != nil {
			delete(r.agents, e.key)
		} else {
			delete(r.groups, e.key)
		}
	}
}

// Agent returns the last hour of an agent.
func (r *Recent) Agent(name string) Hour {
	minute := minuteOf(time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.agents[name]; e != nil {
		return e.minutes.until(minute)
	}
	return Hour{}
}

// All returns the last hour of all agents together, and that of all pushes.
func (r *Recent) All() (Hour, PushHour) {
	minute := minuteOf(time.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.until(minute), r.pushes.until(minute)
}

// Pushes returns the last pushes to a group, the newest first.
func (r *Recent) Pushes(key grouping.Key) []Push {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.groups[key.Canonical()]
	if e == nil {
		return nil
	}
	out := make([]Push, 0, len(e.pushes))
	for _, p := range slices.Backward(e.pushes) {
		out = append(out, Push{
			At: time.Unix(0, p.at), Operation: p.operation, Kind: p.kind, Detail: p.detail, Duplicate: p.duplicate,
			Bytes: int(p.bytes), Took: time.Duration(p.took) * time.Microsecond,
		})
	}
	return out
}

// Refused counts the pushes of the last hour that were not taken.
func (h *PushHour) Refused() int {
	n := 0
	for _, m := range h {
		n += int(m.Refused)
	}
	return n
}
