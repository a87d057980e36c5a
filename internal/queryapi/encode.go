package queryapi

import (
	"bufio"
	"encoding/json"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/buckets"
	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// The keys of a group beside its families, and what goes before a family of such a name. Nobody may push a family whose
// name begins like that (S17); with the check off one is kept, and then stands after the other and wins.
const (
	labelsKey     = "labels"
	successfulKey = "last_push_successful"
	takenPrefix   = "relay_"
)

// The keys of a group of whose life something is declared. A family of such a name goes before them in all other groups, as in a Pushgateway.
const (
	stateKey      = "state"
	dueKey        = "due"
	expiresKey    = "expires"
	declaredByKey = "declared_by"
	jobFailureKey = "job_failure"
)

// A groupEncoder writes one group. It holds one metric at a time: a group may have a hundred thousand.
type groupEncoder struct {
	out   *bufio.Writer
	piece []byte // what was not handed to out yet
	err   error  // the first of out
	sees  func(key grouping.Key) bool
}

// group writes `{"labels":{…},"last_push_successful":…,"<family>":{…},…}`, and behind the first two what is known of the group's life.
func (e *groupEncoder) group(g groupstore.Group) {
	e.piece = append(e.piece, `{"`+labelsKey+`":`...)
	e.piece = appendLabels(e.piece, g.Key().Labels())
	e.piece = append(e.piece, `,"`+successfulKey+`":`...)
	e.piece = strconv.AppendBool(e.piece, !g.FailureTime().After(g.PushTime()))
	e.life(g)
	for f := range g.Families() {
		e.piece = append(e.piece, ',')
		e.family(g, f)
		if e.err != nil {
			return
		}
	}
	e.piece = append(e.piece, '}')
	e.spill()
}

// life writes what is declared of the group's life, and what follows from it now; nothing of a group of which nothing is.
func (e *groupEncoder) life(g groupstore.Group) {
	e.optional(jobFailureKey, g.JobFailure())
	if g.DeclaredBy() == "" {
		return
	}
	e.optional(stateKey, g.State().String())
	e.date(dueKey, g.Due())
	e.date(expiresKey, g.Expires())
	e.optional(declaredByKey, g.DeclaredBy())
}

func (e *groupEncoder) date(key string, at time.Time) {
	if !at.IsZero() {
		e.optional(key, at.Format(time.RFC3339Nano))
	}
}

// isTaken says whether a family of that name would stand under a key of the group.
func isTaken(name string, g groupstore.Group) bool {
	switch name {
	case labelsKey, successfulKey:
		return true
	case jobFailureKey:
		return g.JobFailure() != ""
	case stateKey, dueKey, expiresKey, declaredByKey:
		return g.DeclaredBy() != ""
	default:
		return false
	}
}

// family writes a family under its name. What the Pushgateway does not tell stands inside of it, where the keys are ours:
// "quarantined" is why it is not exposed (S9), and "reason" of the failure time is why that push was rejected.
func (e *groupEncoder) family(g groupstore.Group, f groupstore.Family) {
	name := f.Name()
	if isTaken(name, g) {
		name = takenPrefix + name
	}
	e.piece = appendString(e.piece, name)
	e.piece = append(e.piece, `:{"time_stamp":"`...)
	e.piece = f.PushTime().UTC().AppendFormat(e.piece, time.RFC3339Nano)
	e.piece = append(e.piece, `","type":"`...)
	e.piece = append(e.piece, f.Type().Protobuf()...)
	e.piece = append(e.piece, '"')
	e.optional("help", f.Help())
	e.optional("quarantined", change.Readable(quarantined(g, f), e.sees))
	if f.Name() == series.FailureTimeFamily {
		e.optional("reason", change.Readable(g.FailureReason(), e.sees))
	}
	e.piece = append(e.piece, `,"metrics":[`...)
	first := true
	for m := range f.Metrics() {
		if !first {
			e.piece = append(e.piece, ',')
		}
		first = false
		e.piece = appendMetric(e.piece, f.Type(), m)
		e.spill()
		if e.err != nil {
			return
		}
	}
	e.piece = append(e.piece, "]}"...)
}

func quarantined(g groupstore.Group, f groupstore.Family) string {
	if reason := g.Quarantined(); reason != "" {
		return reason
	}
	return f.Quarantined()
}

func (e *groupEncoder) optional(key, value string) {
	if value == "" {
		return
	}
	e.piece = appendString(append(e.piece, ','), key)
	e.piece = appendString(append(e.piece, ':'), value)
}

func (e *groupEncoder) spill() {
	_, e.err = e.out.Write(e.piece)
	e.piece = e.piece[:0]
}

func appendLabels(dst []byte, labels []grouping.Label) []byte {
	dst = append(dst, '{')
	for i, l := range labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, l.Name)
		dst = appendString(append(dst, ':'), l.Value)
	}
	return append(dst, '}')
}

// appendMetric appends a metric. All its numbers are strings, because JSON has no NaN.
func appendMetric(dst []byte, typ metric.Type, m *dto.Metric) []byte {
	dst = append(dst, `{"labels":{`...)
	for i, l := range m.GetLabel() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, l.GetName())
		dst = appendString(append(dst, ':'), l.GetValue())
	}
	dst = append(dst, '}')
	switch {
	case typ.Simple():
		dst = appendNumber(append(dst, `,"value":`...), metric.SimpleValue(m))
	case typ.Bucketed():
		dst = appendHistogram(dst, m.GetHistogram())
	default:
		dst = appendSummary(dst, m.GetSummary())
	}
	return append(dst, '}')
}

func appendSummary(dst []byte, s *dto.Summary) []byte {
	dst = append(dst, `,"quantiles":{`...)
	for i, q := range s.GetQuantile() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendNumber(dst, q.GetQuantile())
		dst = appendNumber(append(dst, ':'), q.GetValue())
	}
	dst = appendCount(append(dst, `},"count":`...), s.GetSampleCount(), 0)
	return appendNumber(append(dst, `,"sum":`...), s.GetSampleSum())
}

func appendHistogram(dst []byte, h *dto.Histogram) []byte {
	dst = append(dst, `,"buckets":`...)
	if len(h.GetPositiveSpan())+len(h.GetNegativeSpan()) > 0 {
		dst = appendNativeBuckets(dst, h)
	} else {
		dst = appendClassicBuckets(dst, h)
	}
	dst = appendCount(append(dst, `,"count":`...), h.GetSampleCount(), h.GetSampleCountFloat())
	return appendNumber(append(dst, `,"sum":`...), h.GetSampleSum())
}

// appendNativeBuckets appends `[[boundaries,"lower","upper","count"],…]` from the lowest bucket to the highest, without
// empty ones.
func appendNativeBuckets(dst []byte, h *dto.Histogram) []byte {
	dst = append(dst, '[')
	first := true
	for _, b := range buckets.OfNative(h) {
		if b.IsEmpty() {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = strconv.AppendInt(append(dst, '['), int64(b.Boundaries), 10)
		dst = appendNumber(append(dst, ','), b.Lower)
		dst = appendNumber(append(dst, ','), b.Upper)
		dst = append(appendCount(append(dst, ','), b.Count, b.Float), ']')
	}
	return append(dst, ']')
}

func appendClassicBuckets(dst []byte, h *dto.Histogram) []byte {
	dst = append(dst, '{')
	for i, b := range h.GetBucket() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendNumber(dst, b.GetUpperBound())
		dst = appendCount(append(dst, ':'), b.GetCumulativeCount(), b.GetCumulativeCountFloat())
	}
	return append(dst, '}')
}

// appendCount appends the count of an ordinary histogram, or that of a float histogram if there is one.
func appendCount(dst []byte, count uint64, float float64) []byte {
	if float > 0 {
		return appendNumber(dst, float)
	}
	return append(strconv.AppendUint(append(dst, '"'), count, 10), '"')
}

func appendNumber(dst []byte, f float64) []byte {
	return append(strconv.AppendFloat(append(dst, '"'), f, 'g', -1, 64), '"')
}

// appendString appends s as a JSON string. Bytes that are no UTF-8, which only a HELP text can hold, become U+FFFD.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(dst, `""`...) // a string can always be encoded
			}
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
