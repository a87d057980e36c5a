package change

import "net/http"

// Kind is how a change ended: taken, refused for good, or put off. A kind is an error, so that errors.Is finds it in an outcome.
type Kind uint8

// The kinds. The zero value is none of them.
const (
	// Applied means that the push is in the relay's store, as durable as that is.
	Applied Kind = iota + 1
	// Unchecked means applied without the consistency check.
	Unchecked
	// Spooled means that the agent keeps the push until a relay takes it.
	Spooled

	// Invalid means that the push is malformed, or breaks a limit on its shape.
	Invalid
	// Unsupported means that the push asks for something that this release does not know.
	Unsupported
	// Inconsistent means that the push contradicts itself or what other groups hold.
	Inconsistent
	// Forbidden means that whoever pushes may not write this group.
	Forbidden
	// TooLarge means that the body is larger than the limit.
	TooLarge
	// Superseded means that the push waited, and that a newer one of the same agent has taken effect in the group since.
	Superseded
	// Reused means that the push has the key of another one (L13).
	Reused
	// Changed means that the group is another one by now than the change is for ([Change].Version). Nothing was changed.
	Changed

	// Full means that a limit of the whole store is reached.
	Full
	// Unavailable means that the same push may be taken later.
	Unavailable
	// NotWritable means that the store cannot be written, until it can again.
	NotWritable
	// Stalled means that the body stopped arriving.
	Stalled
	// NotCurrent means that what carried the push may not change groups any more. Nothing was changed.
	NotCurrent
	// OutOfTurn means that a push before it was not taken, and its sender does not know that yet (Origin.After). Nothing was changed.
	OutOfTurn
	// TimedOut means that the push was not durable in time. Whether it will be is in doubt.
	TimedOut
	// Canceled means that the program ends before the push was durable. Whether it will be is in doubt.
	Canceled
)

// Verdict is what the sender of a change has to do.
type Verdict uint8

// The verdicts, as relay.proto has them.
const (
	// Taken changes are the store's, or the spool's.
	Taken Verdict = iota + 1
	// Rejected changes will never be taken.
	Rejected
	// Later changes are to be sent again.
	Later
)

// kinds is the one table of what a kind is to those who hear of it: people who read logs, clients of HTTP, metrics, and agents.
var kinds = [...]struct {
	text    string // what errors.Is prints of a kind alone
	status  int    // of HTTP
	label   string // of metrics, as the reason of what is not taken
	verdict Verdict
	reason  int32 // of the verdict, by its number in relay.proto
}{
	Applied:   {"push is applied", http.StatusOK, "", Taken, 0},
	Unchecked: {"push is applied without a check", http.StatusAccepted, "", Taken, 0},
	Spooled:   {"push is kept at the agent", http.StatusAccepted, "", Taken, 0},

	Invalid:      {"push is invalid", http.StatusBadRequest, "invalid", Rejected, 1},
	Inconsistent: {"push is inconsistent", http.StatusBadRequest, "inconsistent", Rejected, 2},
	TooLarge:     {"push is too large", http.StatusRequestEntityTooLarge, "too_large", Rejected, 3},
	Forbidden:    {"push is forbidden", http.StatusForbidden, "forbidden", Rejected, 4},
	Unsupported:  {"push is not supported", http.StatusBadRequest, "invalid", Rejected, 5},
	Superseded:   {"push is superseded", http.StatusConflict, "superseded", Rejected, 6},
	Changed:      {"the group has changed", http.StatusConflict, "changed", Rejected, 1},
	Reused:       {"key of the push is that of another", http.StatusUnprocessableEntity, "reused", Rejected, 1},

	Unavailable: {"push is not possible now", http.StatusServiceUnavailable, "unavailable", Later, 1},
	NotWritable: {"the store cannot be written", http.StatusServiceUnavailable, "unavailable", Later, 2},
	Full:        {"store is full", http.StatusTooManyRequests, "full", Later, 3},
	NotCurrent:  {"what carried the push may not change groups any more", http.StatusServiceUnavailable, "unavailable", Later, 4},
	OutOfTurn:   {"a push before it was not taken", http.StatusServiceUnavailable, "unavailable", Later, 1},
	Stalled:     {"push stopped arriving", http.StatusRequestTimeout, "unavailable", Later, 1},
	TimedOut:    {"push was not stored in time", http.StatusServiceUnavailable, "timeout", Later, 1},
	Canceled:    {"push was not stored before the end", http.StatusServiceUnavailable, "canceled", Later, 1},
}

// Kinds returns all kinds.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds)-1)
	for k := Applied; int(k) < len(kinds); k++ {
		all = append(all, k)
	}
	return all
}

// Error returns what the kind means.
func (k Kind) Error() string { return kinds[k].text }

// Is says that a kind is a special one of another: what is unsupported is invalid, and what cannot be written is unavailable.
func (k Kind) Is(target error) bool {
	switch target {
	case Invalid:
		return k == Unsupported
	case Unavailable:
		return kinds[k].verdict == Later && k != Full
	default:
		return false
	}
}

// Status returns the HTTP status that stands for the kind. A DELETE that is applied is 202.
func (k Kind) Status() int { return kinds[k].status }

// Label returns the reason as a label of metrics; empty for what was taken.
func (k Kind) Label() string { return kinds[k].label }

// Verdict returns what an agent hears, and the number of the reason in relay.proto.
func (k Kind) Verdict() (v Verdict, reason int32) { return kinds[k].verdict, kinds[k].reason }

// KindOf returns the kind that a verdict is of. A reason that is not known is Invalid or Unavailable: that is what it is for a peer that knows
// less.
func KindOf(v Verdict, reason int32) Kind {
	for k := Applied; int(k) < len(kinds); k++ {
		if kinds[k].verdict == v && kinds[k].reason == reason {
			return k
		}
	}
	switch v {
	case Taken:
		return Applied
	case Rejected:
		return Invalid
	default:
		return Unavailable
	}
}
