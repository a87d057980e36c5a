package enrol

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// A Reason says why there is no certificate. Its text is the value of a metric's label.
type Reason string

// The reasons; what an agent does about each is at EnrolmentRefusalReason in enrolment.proto.
const (
	ReasonToken       Reason = "token"
	ReasonName        Reason = "name"
	ReasonRequest     Reason = "request"
	ReasonCertificate Reason = "certificate"
	ReasonRevoked     Reason = "revoked"
	ReasonCannotSign  Reason = "cannot_sign"
	ReasonLater       Reason = "later"
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{ReasonToken, ReasonName, ReasonRequest, ReasonCertificate, ReasonRevoked, ReasonCannotSign, ReasonLater}
}

var protoReasons = map[Reason]relayv1.EnrolmentRefusalReason{
	ReasonToken:       relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_TOKEN,
	ReasonName:        relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_NAME,
	ReasonRequest:     relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_REQUEST,
	ReasonCertificate: relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_CERTIFICATE,
	ReasonRevoked:     relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_REVOKED,
	ReasonCannotSign:  relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_CANNOT_SIGN,
	ReasonLater:       relayv1.EnrolmentRefusalReason_ENROLMENT_REFUSAL_REASON_LATER,
}

// A Refusal is a certificate that was not issued.
type Refusal struct {
	Reason Reason
	// Message says why, for people: one line.
	Message string
	// KnowsFallback says, of ReasonName, that the relay has looked at the fallback name as well. Those of an earlier release do not.
	KnowsFallback bool
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// Status returns the refusal as it travels.
func (r *Refusal) Status() error {
	code := codes.PermissionDenied
	switch r.Reason {
	case ReasonRequest:
		code = codes.InvalidArgument
	case ReasonCannotSign:
		code = codes.FailedPrecondition
	case ReasonLater:
		code = codes.Unavailable
	default:
	}
	st := status.New(code, r.Message)
	if detailed, err := st.WithDetails(&relayv1.EnrolmentRefusal{Reason: protoReasons[r.Reason], Message: r.Message, KnowsFallback: r.KnowsFallback}); err == nil {
		st = detailed
	}
	return st.Err()
}

// RefusalFrom returns the refusal that a call ended with; ok is false if it failed in another way. A reason that this release does not know is
// [ReasonLater]. The message is as the relay sent it.
func RefusalFrom(err error) (refusal *Refusal, ok bool) {
	st, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	for _, detail := range st.Details() {
		m, ok := detail.(*relayv1.EnrolmentRefusal)
		if !ok {
			continue
		}
		for reason, travels := range protoReasons {
			if travels == m.GetReason() {
				return &Refusal{Reason: reason, Message: m.GetMessage(), KnowsFallback: m.GetKnowsFallback()}, true
			}
		}
		return &Refusal{Reason: ReasonLater, Message: m.GetMessage()}, true
	}
	return nil, false
}
