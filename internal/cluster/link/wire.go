package link

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"pushrelay/internal/change"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
	"pushrelay/internal/tunnel"
)

// relayOperations pairs the operations that no push asks for, and that relays hand on, with their numbers.
var relayOperations = map[change.Operation]relayv1.RelayOperation{
	change.Wipe:   relayv1.RelayOperation_RELAY_OPERATION_WIPE,
	change.Expire: relayv1.RelayOperation_RELAY_OPERATION_EXPIRE,
}

// kinds pairs the kinds of outcomes with their numbers.
var kinds = map[change.Kind]relayv1.ChangeKind{
	change.Applied:      relayv1.ChangeKind_CHANGE_KIND_APPLIED,
	change.Unchecked:    relayv1.ChangeKind_CHANGE_KIND_UNCHECKED,
	change.Spooled:      relayv1.ChangeKind_CHANGE_KIND_SPOOLED,
	change.Invalid:      relayv1.ChangeKind_CHANGE_KIND_INVALID,
	change.Unsupported:  relayv1.ChangeKind_CHANGE_KIND_UNSUPPORTED,
	change.Inconsistent: relayv1.ChangeKind_CHANGE_KIND_INCONSISTENT,
	change.Forbidden:    relayv1.ChangeKind_CHANGE_KIND_FORBIDDEN,
	change.TooLarge:     relayv1.ChangeKind_CHANGE_KIND_TOO_LARGE,
	change.Superseded:   relayv1.ChangeKind_CHANGE_KIND_SUPERSEDED,
	change.Reused:       relayv1.ChangeKind_CHANGE_KIND_REUSED,
	change.Changed:      relayv1.ChangeKind_CHANGE_KIND_CHANGED,
	change.Full:         relayv1.ChangeKind_CHANGE_KIND_FULL,
	change.Unavailable:  relayv1.ChangeKind_CHANGE_KIND_UNAVAILABLE,
	change.NotWritable:  relayv1.ChangeKind_CHANGE_KIND_NOT_WRITABLE,
	change.Stalled:      relayv1.ChangeKind_CHANGE_KIND_STALLED,
	change.NotCurrent:   relayv1.ChangeKind_CHANGE_KIND_NOT_CURRENT,
	change.OutOfTurn:    relayv1.ChangeKind_CHANGE_KIND_OUT_OF_TURN,
	change.TimedOut:     relayv1.ChangeKind_CHANGE_KIND_TIMED_OUT,
	change.Canceled:     relayv1.ChangeKind_CHANGE_KIND_CANCELED,
}

// An order is a change as relays hand it on.
type order struct {
	change *change.Change
	// stored says that the change is about the group that the store has under its key. It goes to the store as it is, and to nobody before it.
	stored bool
}

// beginOf returns the begin of a change, without its numbers.
func beginOf(o order) *relayv1.ForwardBegin {
	c := o.change
	begin := &relayv1.ForwardBegin{
		Change: tunnel.ChangeToProto(c), Agent: c.Agent, Epoch: c.Epoch, Owner: c.Owner, Waited: c.Waited, Stored: o.stored, Version: c.Version,
	}
	begin.Change.Age = nil
	if own, ok := relayOperations[c.Operation]; ok {
		begin.Operation, begin.Key = own, []byte(c.Key.Canonical())
	}
	if !c.At.IsZero() {
		begin.PushedAt = timestamppb.New(c.At)
	}
	if c.Once != nil {
		begin.Once = &relayv1.PushOnce{Key: c.Once.Key[:], Digest: c.Once.Digest[:]}
	}
	if c.Refused != nil {
		begin.Refused = outcomeToProto(change.OutcomeOf(c.Refused))
	}
	return begin
}

// orderOf returns the change of a begin whose body has come. It fails only if the change names no group that could be: what else is wrong with it is
// its Refused.
func orderOf(begin *relayv1.ForwardBegin, body []byte) (order, error) {
	c, err := changeOf(begin, body)
	if err != nil {
		return order{}, err
	}
	c.Agent, c.Epoch, c.Owner, c.Waited, c.Version, c.At = begin.GetAgent(), begin.GetEpoch(), begin.GetOwner(), begin.GetWaited(), begin.GetVersion(), time.Time{}
	if c.Agent == "" && c.Origin != nil {
		c.Origin.After = begin.GetAfter()
	}
	if begin.GetPushedAt() != nil {
		c.At = begin.GetPushedAt().AsTime()
	}
	if once := begin.GetOnce(); once != nil {
		if len(once.GetKey()) != len(change.Once{}.Key) || len(once.GetDigest()) != len(change.Digest{}) {
			return order{}, change.Refuse(change.Invalid, "the key of a push has %d bytes, and its digest %d", len(once.GetKey()), len(once.GetDigest()))
		}
		c.Once = &change.Once{Key: [16]byte(once.GetKey()), Digest: change.Digest(once.GetDigest())}
	}
	if begin.GetRefused() != nil {
		refused := outcomeFromProto(begin.GetRefused())
		c.Refused = &refused
	}
	return order{change: c, stored: begin.GetStored()}, nil
}

func changeOf(begin *relayv1.ForwardBegin, body []byte) (*change.Change, error) {
	if begin.GetOperation() == relayv1.RelayOperation_RELAY_OPERATION_UNSPECIFIED {
		return tunnel.ChangeFromProto(begin.GetChange(), time.Now(), body, metric.UTF8Names)
	}
	key, err := grouping.FromCanonical(string(begin.GetKey()))
	if err != nil {
		return nil, change.Refuse(change.Invalid, "grouping key: %v", err)
	}
	c := &change.Change{Key: key}
	for operation, number := range relayOperations {
		if number == begin.GetOperation() {
			c.Operation = operation
		}
	}
	if c.Operation == 0 {
		return nil, tunnel.ErrUnsupported
	}
	c.Origin, err = tunnel.OriginFromProto(begin.GetChange().GetOrigin())
	return c, err
}

func outcomeToProto(o change.Outcome) *relayv1.ChangeOutcome {
	p := &relayv1.ChangeOutcome{
		Kind: kinds[o.Kind], Detail: strings.ToValidUTF8(o.Detail, "?"), Duplicate: o.Duplicate, MayCountTwice: o.MayCountTwice, Position: o.Decided.Position,
	}
	if o.RetryAfter > 0 {
		p.RetryAfter = durationpb.New(o.RetryAfter)
	}
	return p
}

func outcomeFromProto(p *relayv1.ChangeOutcome) change.Outcome {
	o := change.Outcome{
		Kind: change.Unavailable, Detail: p.GetDetail(), RetryAfter: p.GetRetryAfter().AsDuration(), Duplicate: p.GetDuplicate(), MayCountTwice: p.GetMayCountTwice(),
	}
	o.Decided.Position = p.GetPosition()
	for kind, number := range kinds {
		if number == p.GetKind() {
			o.Kind = kind
		}
	}
	return o
}
