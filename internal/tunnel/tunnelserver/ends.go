package tunnelserver

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/roster"
)

// sessionEnd is why a session ended; the cause of its context.
type sessionEnd struct {
	reason       relayv1.SessionEndReason
	message      string
	supersededBy string
	retryAfter   time.Duration // 0: the agent's own backoff alone
}

// errConnectionLost ends a session whose stream or connection is gone.
var errConnectionLost = &sessionEnd{message: "connection lost"}

// Error returns the message for people.
func (e *sessionEnd) Error() string { return e.message }

// name is the metric label and the word in the log.
func (e *sessionEnd) name() string {
	switch e.reason {
	case relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED:
		return "superseded"
	case relayv1.SessionEndReason_SESSION_END_REASON_DRAINING:
		return "draining"
	case relayv1.SessionEndReason_SESSION_END_REASON_TIMEOUT:
		return "timeout"
	case relayv1.SessionEndReason_SESSION_END_REASON_CERTIFICATE_EXPIRED:
		return "certificate_expired"
	case relayv1.SessionEndReason_SESSION_END_REASON_INCOMPATIBLE:
		return "incompatible"
	case relayv1.SessionEndReason_SESSION_END_REASON_VIOLATION:
		return "protocol_violation"
	case relayv1.SessionEndReason_SESSION_END_REASON_OVERLOADED:
		return "overloaded"
	case relayv1.SessionEndReason_SESSION_END_REASON_REVOKED:
		return "revoked"
	default:
		return "connection_lost"
	}
}

func (e *sessionEnd) proto() *relayv1.SessionEnd {
	end := &relayv1.SessionEnd{Reason: e.reason, SupersededBy: e.supersededBy, Message: e.message}
	if e.retryAfter > 0 {
		end.RetryAfter = durationpb.New(e.retryAfter)
	}
	return end
}

// status is how the end travels where no session began.
func (e *sessionEnd) status() *status.Status {
	st := status.New(codes.Unavailable, e.message)
	detailed, err := st.WithDetails(e.proto())
	if err != nil {
		return st
	}
	return detailed
}

// endOf returns why a session's context ended.
func endOf(ctx context.Context) *sessionEnd {
	if end, ok := errors.AsType[*sessionEnd](context.Cause(ctx)); ok {
		return end
	}
	return errConnectionLost
}

// takenWait is how long an agent waits whose name is that of another one: somebody has to do something about it.
const takenWait = time.Minute

// refusal returns how a session ends that the registry does not take, and the word for that in the log.
func refusal(reason error) (end *sessionEnd, code string) {
	_, gone := errors.AsType[*roster.RevokedError](reason)
	_, taken := errors.AsType[*roster.TakenError](reason)
	_, stale := errors.AsType[*roster.StaleError](reason)
	switch {
	case gone:
		return revoked(reason.Error()), "revoked"
	case taken:
		return &sessionEnd{message: reason.Error(), retryAfter: takenWait}, "name_taken"
	case stale:
		return &sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_SUPERSEDED, message: reason.Error()}, "stale"
	default:
		return &sessionEnd{message: reason.Error()}, "not_admitted"
	}
}
