package tunnel

import (
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/types/known/durationpb"

	"pushrelay/internal/addup"
	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// operations pairs the operations of a push with their numbers.
var operations = map[change.Operation]relayv1.Operation{
	change.Replace: relayv1.Operation_OPERATION_REPLACE,
	change.Merge:   relayv1.Operation_OPERATION_MERGE,
	change.Delete:  relayv1.Operation_OPERATION_DELETE,
	change.Fail:    relayv1.Operation_OPERATION_FAILURE,

	change.MergeSeries: relayv1.Operation_OPERATION_MERGE_SERIES,
	change.Add:         relayv1.Operation_OPERATION_ADD,
}

// gauges pairs what adding does with gauges with the numbers of that.
var gauges = map[addup.Gauges]relayv1.GaugeAddition{
	addup.Last: relayv1.GaugeAddition_GAUGE_ADDITION_UNSPECIFIED,
	addup.Sum:  relayv1.GaugeAddition_GAUGE_ADDITION_SUM,
	addup.Min:  relayv1.GaugeAddition_GAUGE_ADDITION_MIN,
	addup.Max:  relayv1.GaugeAddition_GAUGE_ADDITION_MAX,
}

// formats pairs the formats of a push with their numbers.
var formats = map[exposition.Format]relayv1.BodyFormat{
	exposition.Text004:           relayv1.BodyFormat_BODY_FORMAT_TEXT,
	exposition.ProtobufDelimited: relayv1.BodyFormat_BODY_FORMAT_PROTOBUF_DELIMITED,
}

// ChangeToProto returns the begin of a push's change. The caller numbers it.
func ChangeToProto(r *change.Change) *relayv1.ChangeBegin {
	begin := &relayv1.ChangeBegin{
		Operation: operations[r.Operation],
		BodyBytes: uint64(len(r.Body)),
		Age:       durationpb.New(max(0, time.Since(r.At))),

		MayBeHidden: r.MayBeHidden,
	}
	if r.Operation.HasBody() {
		begin.Format, begin.Life, begin.Failed = formats[r.Format], lifeToProto(r.Life), r.Failed
	}
	begin.Gauges = gauges[r.Gauges]
	for _, l := range r.Key.Labels() {
		begin.GroupingKey = append(begin.GroupingKey, &relayv1.Label{Name: l.Name, Value: l.Value})
	}
	if o := r.Origin; o != nil {
		begin.Origin = &relayv1.Origin{JournalId: o.Journal[:], Sequence: o.Sequence, Digest: o.Digest[:]}
	}
	return begin
}

// MaxInlineBodyBytes is the largest body, as it travels, that comes with the begin of its change.
const MaxInlineBodyBytes = 1 << 10

// maxExpansion is how many times as long a body may be once it is decompressed: what is made of nearly nothing costs its sender nothing. One that
// packs better travels as it is.
const maxExpansion = 256

// Packs says whether a body of that size may travel as a block of S2 of so many bytes.
func Packs(packed, size uint64) bool { return packed <= size && size/maxExpansion <= packed }

// Pack says in the begin of a change that its body travels as a block of S2, of so many bytes.
func Pack(begin *relayv1.ChangeBegin, packed, size int) {
	begin.Encoding, begin.BodyBytes, begin.DecompressedBytes = relayv1.BodyEncoding_BODY_ENCODING_S2, uint64(packed), uint64(size)
}

// BodyBytes returns the length of the body of a change once it is decompressed.
func BodyBytes(begin *relayv1.ChangeBegin) uint64 {
	if begin.GetEncoding() == relayv1.BodyEncoding_BODY_ENCODING_S2 {
		return begin.GetDecompressedBytes()
	}
	return begin.GetBodyBytes()
}

// CheckBody says what is wrong with what the begin of a change says of its body.
func CheckBody(begin *relayv1.ChangeBegin) error {
	switch {
	case len(begin.GetBody()) > MaxInlineBodyBytes:
		return change.Refuse(change.Invalid, "body: %d bytes with the begin of the change, and %d are allowed", len(begin.GetBody()), MaxInlineBodyBytes)
	case begin.GetEncoding() == relayv1.BodyEncoding_BODY_ENCODING_UNSPECIFIED:
		return nil
	case begin.GetEncoding() != relayv1.BodyEncoding_BODY_ENCODING_S2:
		return fmt.Errorf("body encoding %d: %w", begin.GetEncoding(), ErrUnsupported)
	case !Packs(begin.GetBodyBytes(), begin.GetDecompressedBytes()):
		return change.Refuse(change.Invalid, "body: %d bytes that are %d once they are decompressed", begin.GetBodyBytes(), begin.GetDecompressedBytes())
	default:
		return nil
	}
}

// Unpack decompresses a body into dst, which has just the length that it must have.
func Unpack(dst, packed []byte) ([]byte, error) {
	size, err := s2.DecodedLen(packed)
	if err == nil && size != len(dst) {
		err = fmt.Errorf("it has %d bytes of the %d announced", size, len(dst))
	}
	if err == nil {
		dst, err = s2.Decode(dst, packed)
	}
	if err != nil {
		return nil, change.Refuse(change.Invalid, "decompressing the body: %v", err)
	}
	return dst, nil
}

// lifeToProto returns nil for what says nothing.
func lifeToProto(d lifetime.Declaration) *relayv1.Life {
	if d.IsZero() {
		return nil
	}
	t := d.Texts()
	return &relayv1.Life{Ttl: t.TTL, Every: t.Every, Schedule: t.Schedule, Grace: t.Grace}
}

func lifeFromProto(l *relayv1.Life) (lifetime.Declaration, error) {
	d, err := lifetime.Parse(lifetime.Texts{TTL: l.GetTtl(), Every: l.GetEvery(), Schedule: l.GetSchedule(), Grace: l.GetGrace()})
	if err != nil {
		return d, change.Refuse(change.Invalid, "what the push says of its group's life: %v", err)
	}
	return d, nil
}

// ErrUnsupported means that the other side asks for something that this release does not know.
var ErrUnsupported = change.Refuse(change.Unsupported, "not supported by this relay")

// ChangeFromProto returns the push of a change whose body has come, and which began to come at that time. What is wrong with the change for good is
// its Refused: an unknown operation or format ([ErrUnsupported]), a name that the relay's scheme does not allow, an origin
// that cannot be, a life that cannot be read. It fails, with [change.Invalid], only if the change names no group that could be.
func ChangeFromProto(begin *relayv1.ChangeBegin, begun time.Time, body []byte, names metric.NameScheme) (*change.Change, error) {
	labels := make([]grouping.Label, 0, len(begin.GetGroupingKey()))
	for _, l := range begin.GetGroupingKey() {
		labels = append(labels, grouping.Label{Name: l.GetName(), Value: l.GetValue()})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		return nil, change.Refuse(change.Invalid, "grouping key: %v", err)
	}
	r := &change.Change{Key: key, Body: body, MayBeHidden: begin.GetMayBeHidden(), At: pushedAt(begun, begin.GetAge().AsDuration())}
	r.Refused = fill(r, begin, names)
	return r, nil
}

// firstPush is the earliest time that a push can have. One before 1970 would be negative for Prometheus, and that of 1970 is that of a group which was
// never pushed.
var firstPush = time.Unix(1, 0)

// pushedAt is when a push was made that began to come then, at that age (T19). An agent whose clock was set, or who wants to, says any age.
func pushedAt(begun time.Time, age time.Duration) time.Time {
	at := begun.Add(-max(0, age))
	if at.Before(firstPush) {
		return firstPush
	}
	return at
}

// fill sets what a change says beside its group and its body, and returns what is wrong with that.
func fill(r *change.Change, begin *relayv1.ChangeBegin, names metric.NameScheme) (err error) {
	if r.Origin, err = OriginFromProto(begin.GetOrigin()); err != nil {
		return err
	}
	for _, l := range begin.GetGroupingKey() {
		if err := grouping.CheckLabelName(l.GetName(), names); err != nil {
			return change.Refuse(change.Invalid, "%v", err)
		}
	}
	var known bool
	if r.Operation, known = inverse(operations, begin.GetOperation()); !known {
		return fmt.Errorf("operation %d: %w", begin.GetOperation(), ErrUnsupported)
	}
	if !r.Operation.HasBody() {
		return nil
	}
	if r.Gauges, known = inverse(gauges, begin.GetGauges()); !known {
		return fmt.Errorf("addition %d of gauges: %w", begin.GetGauges(), ErrUnsupported)
	}
	if r.Format, known = inverse(formats, begin.GetFormat()); !known {
		return fmt.Errorf("exposition format %d: %w", begin.GetFormat(), ErrUnsupported)
	}
	r.Failed = change.FailedText(begin.GetFailed())
	r.Life, err = lifeFromProto(begin.GetLife())
	return err
}

// OriginFromProto returns an origin that has come, nil for a change without one. One that is malformed would not be recognised again, so that
// it is the fault of the change.
func OriginFromProto(o *relayv1.Origin) (*change.Origin, error) {
	switch {
	case o == nil:
		return nil, nil
	case len(o.GetJournalId()) != len(change.Origin{}.Journal):
		return nil, change.Refuse(change.Invalid, "origin: the journal's id has %d bytes", len(o.GetJournalId()))
	case len(o.GetDigest()) != len(change.Digest{}):
		return nil, change.Refuse(change.Invalid, "origin: the digest has %d bytes", len(o.GetDigest()))
	case o.GetSequence() == 0:
		return nil, change.Refuse(change.Invalid, "origin: sequences begin at 1")
	}
	return &change.Origin{Journal: [16]byte(o.GetJournalId()), Sequence: o.GetSequence(), Digest: change.Digest(o.GetDigest())}, nil
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

// VerdictToProto returns the verdict on a change of that number.
func VerdictToProto(number uint64, o change.Outcome) *relayv1.PushResponse {
	verdict, reason := o.Kind.Verdict()
	response := &relayv1.PushResponse{Change: number}
	switch verdict {
	case change.Taken:
		response.Decided = pointToProto(o.Decided)
		response.Verdict = &relayv1.PushResponse_Applied{Applied: &relayv1.Applied{Duplicate: o.Duplicate, Unchecked: o.Kind == change.Unchecked, Hidden: o.Detail}}
	case change.Rejected:
		response.Decided = pointToProto(o.Decided)
		response.Verdict = &relayv1.PushResponse_Rejected{Rejected: &relayv1.Rejected{Reason: relayv1.RejectReason(reason), Message: o.Detail}}
	default:
		later := &relayv1.Later{Reason: relayv1.LaterReason(reason), Message: o.Detail}
		if o.RetryAfter > 0 {
			later.RetryAfter = durationpb.New(o.RetryAfter)
		}
		response.Verdict = &relayv1.PushResponse_Later{Later: later}
	}
	return response
}

// VerdictFromProto returns what the relay made of a change: a 400 of the relay is a 400 at the agent. What the relay puts off is
// change.Unavailable or change.Full, with the delay that it asks for as [ChangeDelay] has it.
func VerdictFromProto(p *relayv1.PushResponse) change.Outcome {
	decided := pointFromProto(p.GetDecided())
	switch v := p.GetVerdict().(type) {
	case *relayv1.PushResponse_Applied:
		o := change.Outcome{Kind: change.Applied, Duplicate: v.Applied.GetDuplicate(), Detail: Text(v.Applied.GetHidden()), Decided: decided}
		if v.Applied.GetUnchecked() {
			o.Kind = change.Unchecked
		}
		return o
	case *relayv1.PushResponse_Rejected:
		kind := change.KindOf(change.Rejected, int32(v.Rejected.GetReason()))
		return change.Outcome{Kind: kind, Detail: Text(v.Rejected.GetMessage()), Decided: decided}
	case *relayv1.PushResponse_Later:
		kind := change.KindOf(change.Later, int32(v.Later.GetReason()))
		after, _ := ChangeDelay(v.Later)
		return change.Outcome{Kind: kind, Detail: Text(v.Later.GetMessage()), RetryAfter: after}
	default:
		return change.Outcome{Kind: change.Unavailable, Detail: "the relay gave a verdict that this agent does not know"}
	}
}
