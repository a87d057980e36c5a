package exposition

import "fmt"

// ParseError says that a body is malformed. Its text is what the Pushgateway answers.
type ParseError struct {
	// Line is the line of a text body, counted from 1; 0 for protobuf.
	Line int
	// Msg says what is wrong there.
	Msg string
}

// Error returns the line, where there is one, and the message.
func (e *ParseError) Error() string {
	if e.Line == 0 {
		return e.Msg
	}
	return fmt.Sprintf("text format parsing error in line %d: %s", e.Line, e.Msg)
}

// InconsistentError says that a body is well formed and contradicts itself or the data model: a metric whose value is not
// of its family's type, a series that is there twice, a reserved label name. Its text means what the Pushgateway's means.
type InconsistentError struct {
	// Msg says what is wrong.
	Msg string
}

// Error returns the message.
func (e *InconsistentError) Error() string { return e.Msg }

// Limit is one of the [Limits].
type Limit uint8

// The limits of a push.
const (
	SeriesLimit Limit = iota
	LabelsLimit
	LabelLengthLimit
)

// LimitError says that a body exceeds one of the [Limits].
type LimitError struct {
	// Limit is the limit that was exceeded, and Max its value.
	Limit Limit
	Max   int
	// Metric is the name of the metric in question; empty for SeriesLimit.
	Metric string
}

// Error names the limit, its value and the metric.
func (e *LimitError) Error() string {
	switch e.Limit {
	case LabelsLimit:
		return fmt.Sprintf("metric %q has more than %d labels (--push.max-labels)", e.Metric, e.Max)
	case LabelLengthLimit:
		return fmt.Sprintf("metric %q has a name or a label that is longer than %d bytes (--push.max-label-length)", e.Metric, e.Max)
	default:
		return fmt.Sprintf("push has more than %d series (--push.max-series)", e.Max)
	}
}
