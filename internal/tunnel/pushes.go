package tunnel

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/push"
)

// operations pairs the operations of a push with their numbers.
var operations = map[push.Operation]relayv1.Operation{
	push.Replace: relayv1.Operation_OPERATION_REPLACE,
	push.Merge:   relayv1.Operation_OPERATION_MERGE,
	push.Delete:  relayv1.Operation_OPERATION_DELETE,
}

// formats pairs the formats of a push with their numbers.
var formats = map[exposition.Format]relayv1.BodyFormat{
	exposition.Text004:           relayv1.BodyFormat_BODY_FORMAT_TEXT,
	exposition.ProtobufDelimited: relayv1.BodyFormat_BODY_FORMAT_PROTOBUF_DELIMITED,
}

// ChangeToProto returns the begin of a push's change. The caller numbers it.
func ChangeToProto(r *push.Request) *relayv1.ChangeBegin {
	begin := &relayv1.ChangeBegin{
		Operation: operations[r.Operation],
		BodyBytes: uint64(len(r.Body)),
		Age:       durationpb.New(max(0, time.Since(r.ReceivedAt))),
	}
	if r.Operation != push.Delete {
		begin.Format = formats[r.Format]
	}
	for _, l := range r.Key.Labels() {
		begin.GroupingKey = append(begin.GroupingKey, &relayv1.Label{Name: l.Name, Value: l.Value})
	}
	return begin
}

// ErrUnsupported means that the other side asks for something that this release does not know.
var ErrUnsupported = errors.New("not supported by this relay")

// ChangeFromProto returns the push of a change whose body has come, received now. It fails with [ErrUnsupported] or, for
// a grouping key that cannot be under the relay's scheme of names, with push.ErrInvalid.
func ChangeFromProto(begin *relayv1.ChangeBegin, body []byte, names grouping.NameScheme) (*push.Request, error) {
	op, known := inverse(operations, begin.GetOperation())
	if !known {
		return nil, fmt.Errorf("operation %d: %w", begin.GetOperation(), ErrUnsupported)
	}
	r := &push.Request{Operation: op, Body: body, ReceivedAt: time.Now().Add(-max(0, begin.GetAge().AsDuration()))}
	if op != push.Delete {
		if r.Format, known = inverse(formats, begin.GetFormat()); !known {
			return nil, fmt.Errorf("exposition format %d: %w", begin.GetFormat(), ErrUnsupported)
		}
	}
	labels := make([]grouping.Label, 0, len(begin.GetGroupingKey()))
	for _, l := range begin.GetGroupingKey() {
		if err := grouping.CheckLabelName(l.GetName(), names); err != nil {
			return nil, push.Errorf(push.ErrInvalid, "%v", err)
		}
		labels = append(labels, grouping.Label{Name: l.GetName(), Value: l.GetValue()})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		return nil, push.Errorf(push.ErrInvalid, "grouping key: %v", err)
	}
	r.Key = key
	return r, nil
}

func inverse[K, V comparable](m map[K]V, value V) (K, bool) {
	for k, v := range m {
		if v == value {
			return k, true
		}
	}
	var zero K
	return zero, false
}

// rejections are the kinds of refusal that are final, with their numbers.
var rejections = []struct {
	kind   error
	reason relayv1.RejectReason
}{
	{push.ErrInvalid, relayv1.RejectReason_REJECT_REASON_INVALID},
	{push.ErrInconsistent, relayv1.RejectReason_REJECT_REASON_INCONSISTENT},
	{push.ErrTooLarge, relayv1.RejectReason_REJECT_REASON_TOO_LARGE},
	{push.ErrForbidden, relayv1.RejectReason_REJECT_REASON_FORBIDDEN},
	{ErrUnsupported, relayv1.RejectReason_REJECT_REASON_UNSUPPORTED},
}

// VerdictToProto returns the verdict on a change: what a pusher said of it.
func VerdictToProto(change uint64, result push.Result, err error) *relayv1.PushResponse {
	if err == nil {
		applied := &relayv1.Applied{Unchecked: result.Outcome == push.Unchecked}
		return &relayv1.PushResponse{Change: change, Verdict: &relayv1.PushResponse_Applied{Applied: applied}}
	}
	for _, r := range rejections {
		if errors.Is(err, r.kind) {
			rejected := &relayv1.Rejected{Reason: r.reason, Message: err.Error()}
			return &relayv1.PushResponse{Change: change, Verdict: &relayv1.PushResponse_Rejected{Rejected: rejected}}
		}
	}
	later := &relayv1.Later{Reason: relayv1.LaterReason_LATER_REASON_OVERLOADED, Message: err.Error()}
	if errors.Is(err, push.ErrFull) {
		later.Reason = relayv1.LaterReason_LATER_REASON_STORE_FULL
	}
	if refused, ok := errors.AsType[*push.Error](err); ok && refused.RetryAfter > 0 {
		later.RetryAfter = durationpb.New(refused.RetryAfter)
	}
	return &relayv1.PushResponse{Change: change, Verdict: &relayv1.PushResponse_Later{Later: later}}
}

// VerdictFromProto returns what the relay's pusher said, as an error of the same kind: a 400 of the relay is a 400 at the
// agent. What the relay puts off is unavailable to a client that waits.
func VerdictFromProto(p *relayv1.PushResponse) (push.Result, error) {
	switch v := p.GetVerdict().(type) {
	case *relayv1.PushResponse_Applied:
		if v.Applied.GetUnchecked() {
			return push.Result{Outcome: push.Unchecked}, nil
		}
		return push.Result{Outcome: push.Applied}, nil
	case *relayv1.PushResponse_Rejected:
		refused := &push.Error{Kind: push.ErrInvalid, Message: v.Rejected.GetMessage()}
		for _, r := range rejections {
			if r.reason == v.Rejected.GetReason() && !errors.Is(r.kind, ErrUnsupported) {
				refused.Kind = r.kind
			}
		}
		return push.Result{}, refused
	case *relayv1.PushResponse_Later:
		refused := &push.Error{Kind: push.ErrUnavailable, Message: v.Later.GetMessage(), RetryAfter: v.Later.GetRetryAfter().AsDuration()}
		if v.Later.GetReason() == relayv1.LaterReason_LATER_REASON_STORE_FULL {
			refused.Kind = push.ErrFull
		}
		return push.Result{}, refused
	default:
		return push.Result{}, push.Errorf(push.ErrUnavailable, "the relay gave a verdict that this agent does not know")
	}
}

// LimitsToProto returns the limits of pushes as the relay announces them.
func LimitsToProto(l push.Limits) *relayv1.Limits {
	return &relayv1.Limits{
		MaxBodyBytes:             uint64(l.MaxBodyBytes),
		MaxDecompressedBytes:     uint64(l.MaxDecompressedBytes),
		MaxSeries:                uint32(l.MaxSeries),
		MaxLabels:                uint32(l.MaxLabels),
		MaxLabelLength:           uint32(l.MaxLabelLength),
		MaxUnacknowledgedBytes:   MaxUnacknowledgedBytes,
		MaxUnacknowledgedChanges: MaxUnacknowledgedChanges,
		MaxTargets:               MaxTargets,
	}
}
