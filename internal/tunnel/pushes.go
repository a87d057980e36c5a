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
	push.Fail:    relayv1.Operation_OPERATION_FAILURE,
}

// formats pairs the formats of a push with their numbers.
var formats = map[exposition.Format]relayv1.BodyFormat{
	exposition.Text004:           relayv1.BodyFormat_BODY_FORMAT_TEXT,
	exposition.ProtobufDelimited: relayv1.BodyFormat_BODY_FORMAT_PROTOBUF_DELIMITED,
}

// hasBody says whether a push of that operation has a body.
func hasBody(op push.Operation) bool { return op == push.Replace || op == push.Merge }

// ChangeToProto returns the begin of a push's change. The caller numbers it.
func ChangeToProto(r *push.Request) *relayv1.ChangeBegin {
	begin := &relayv1.ChangeBegin{
		Operation: operations[r.Operation],
		BodyBytes: uint64(len(r.Body)),
		Age:       durationpb.New(max(0, time.Since(r.ReceivedAt))),
	}
	if hasBody(r.Operation) {
		begin.Format = formats[r.Format]
	}
	for _, l := range r.Key.Labels() {
		begin.GroupingKey = append(begin.GroupingKey, &relayv1.Label{Name: l.Name, Value: l.Value})
	}
	if o := r.Origin; o != nil {
		begin.Origin = &relayv1.Origin{JournalId: o.Journal[:], Sequence: o.Sequence, Digest: o.Digest[:]}
	}
	return begin
}

// ErrUnsupported means that the other side asks for something that this release does not know.
var ErrUnsupported = push.Errorf(push.ErrInvalid, "not supported by this relay")

// ChangeFromProto returns the push of a change whose body has come, and which began to come at that time. What is wrong with the change for good is
// its Refused: an unknown operation or format ([ErrUnsupported]), a name that the relay's scheme does not allow, an origin
// that cannot be. It fails, with push.ErrInvalid, only if the change names no group that could be.
func ChangeFromProto(begin *relayv1.ChangeBegin, begun time.Time, body []byte, names grouping.NameScheme) (*push.Request, error) {
	labels := make([]grouping.Label, 0, len(begin.GetGroupingKey()))
	for _, l := range begin.GetGroupingKey() {
		labels = append(labels, grouping.Label{Name: l.GetName(), Value: l.GetValue()})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		return nil, push.Errorf(push.ErrInvalid, "grouping key: %v", err)
	}
	r := &push.Request{Key: key, Body: body, ReceivedAt: begun.Add(-max(0, begin.GetAge().AsDuration()))}
	r.Refused = fill(r, begin, names)
	return r, nil
}

// fill sets what a change says beside its group and its body, and returns what is wrong with that.
func fill(r *push.Request, begin *relayv1.ChangeBegin, names grouping.NameScheme) (err error) {
	if r.Origin, err = originFromProto(begin.GetOrigin()); err != nil {
		return err
	}
	for _, l := range begin.GetGroupingKey() {
		if err := grouping.CheckLabelName(l.GetName(), names); err != nil {
			return push.Errorf(push.ErrInvalid, "%v", err)
		}
	}
	var known bool
	if r.Operation, known = inverse(operations, begin.GetOperation()); !known {
		return fmt.Errorf("operation %d: %w", begin.GetOperation(), ErrUnsupported)
	}
	if !hasBody(r.Operation) {
		return nil
	}
	if r.Format, known = inverse(formats, begin.GetFormat()); !known {
		return fmt.Errorf("exposition format %d: %w", begin.GetFormat(), ErrUnsupported)
	}
	return nil
}

// originFromProto returns nil for a change without an origin. One that is malformed would not be recognised again, so that
// it is the fault of the change.
func originFromProto(o *relayv1.Origin) (*push.Origin, error) {
	switch {
	case o == nil:
		return nil, nil
	case len(o.GetJournalId()) != len(push.Origin{}.Journal):
		return nil, push.Errorf(push.ErrInvalid, "origin: the journal's id has %d bytes", len(o.GetJournalId()))
	case len(o.GetDigest()) != len(push.Digest{}):
		return nil, push.Errorf(push.ErrInvalid, "origin: the digest has %d bytes", len(o.GetDigest()))
	case o.GetSequence() == 0:
		return nil, push.Errorf(push.ErrInvalid, "origin: sequences begin at 1")
	}
	return &push.Origin{Journal: [16]byte(o.GetJournalId()), Sequence: o.GetSequence(), Digest: push.Digest(o.GetDigest())}, nil
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

// rejections are the kinds of refusal that are final, with their numbers. ErrUnsupported comes first, since it is invalid
// as well.
var rejections = []struct {
	kind   error
	reason relayv1.RejectReason
}{
	{ErrUnsupported, relayv1.RejectReason_REJECT_REASON_UNSUPPORTED},
	{push.ErrInvalid, relayv1.RejectReason_REJECT_REASON_INVALID},
	{push.ErrInconsistent, relayv1.RejectReason_REJECT_REASON_INCONSISTENT},
	{push.ErrTooLarge, relayv1.RejectReason_REJECT_REASON_TOO_LARGE},
	{push.ErrForbidden, relayv1.RejectReason_REJECT_REASON_FORBIDDEN},
	{push.ErrSuperseded, relayv1.RejectReason_REJECT_REASON_SUPERSEDED},
}

// postponements are the kinds of refusal that pass, with their numbers. Whatever is neither here nor in rejections is
// overload.
var postponements = []struct {
	kind   error
	reason relayv1.LaterReason
}{
	{push.ErrNotWritable, relayv1.LaterReason_LATER_REASON_NOT_WRITABLE},
	{push.ErrNotCurrent, relayv1.LaterReason_LATER_REASON_SESSION_ENDING},
	{push.ErrFull, relayv1.LaterReason_LATER_REASON_STORE_FULL},
}

func rejectReason(err error) (reason relayv1.RejectReason, final bool) {
	for _, r := range rejections {
		if errors.Is(err, r.kind) {
			return r.reason, true
		}
	}
	return 0, false
}

func laterReason(err error) relayv1.LaterReason {
	for _, p := range postponements {
		if errors.Is(err, p.kind) {
			return p.reason
		}
	}
	return relayv1.LaterReason_LATER_REASON_OVERLOADED
}

// VerdictToProto returns the verdict on a change: what a pusher said of it.
func VerdictToProto(change uint64, result push.Result, err error) *relayv1.PushResponse {
	verdict := &relayv1.PushResponse{Change: change, Decided: pointToProto(result.Decided)}
	if err == nil {
		applied := &relayv1.Applied{Duplicate: result.Duplicate, Unchecked: result.Outcome == push.Unchecked, Hidden: result.Detail}
		verdict.Verdict = &relayv1.PushResponse_Applied{Applied: applied}
		return verdict
	}
	if reason, final := rejectReason(err); final {
		verdict.Verdict = &relayv1.PushResponse_Rejected{Rejected: &relayv1.Rejected{Reason: reason, Message: err.Error()}}
		return verdict
	}
	later := &relayv1.Later{Reason: laterReason(err), Message: err.Error()}
	if refused, ok := errors.AsType[*push.Error](err); ok && refused.RetryAfter > 0 {
		later.RetryAfter = durationpb.New(refused.RetryAfter)
	}
	return &relayv1.PushResponse{Change: change, Verdict: &relayv1.PushResponse_Later{Later: later}}
}

// VerdictFromProto returns what the relay's pusher said, as an error of the same kind: a 400 of the relay is a 400 at the
// agent. What the relay puts off is push.ErrUnavailable or push.ErrFull, with the delay that it asks for.
func VerdictFromProto(p *relayv1.PushResponse) (push.Result, error) {
	result := push.Result{Decided: pointFromProto(p.GetDecided())}
	switch v := p.GetVerdict().(type) {
	case *relayv1.PushResponse_Applied:
		result.Outcome, result.Duplicate, result.Detail = push.Applied, v.Applied.GetDuplicate(), v.Applied.GetHidden()
		if v.Applied.GetUnchecked() {
			result.Outcome = push.Unchecked
		}
		return result, nil
	case *relayv1.PushResponse_Rejected:
		refused := &push.Error{Kind: push.ErrInvalid, Message: Text(v.Rejected.GetMessage())}
		for _, r := range rejections {
			if r.reason == v.Rejected.GetReason() {
				refused.Kind = r.kind
			}
		}
		return result, refused
	case *relayv1.PushResponse_Later:
		refused := &push.Error{Kind: push.ErrUnavailable, Message: Text(v.Later.GetMessage()), RetryAfter: v.Later.GetRetryAfter().AsDuration()}
		for _, p := range postponements {
			if p.reason == v.Later.GetReason() {
				refused.Kind = p.kind
			}
		}
		return push.Result{}, refused
	default:
		return push.Result{}, push.Errorf(push.ErrUnavailable, "the relay gave a verdict that this agent does not know")
	}
}
