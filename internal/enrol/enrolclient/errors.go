package enrolclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// An Error is why no relay issued a certificate.
type Error struct {
	// Reason is that of a relay's refusal. It is empty while a relay that was not reached, or that says later, may know better than one that refused, and
	// if nobody was reached.
	Reason enrol.Reason
	// Later says that the same may come to a good end later, without anybody doing anything here.
	Later bool
	// text says of each relay why.
	text string
	// noFallback says that a relay refuses for the name and knows no fallback.
	noFallback bool
}

// Error says of each relay that was asked why.
func (e *Error) Error() string { return e.text }

// Final says that the relays have refused for good what they were asked with.
func (e *Error) Final() bool {
	return slices.Contains([]enrol.Reason{enrol.ReasonToken, enrol.ReasonName, enrol.ReasonRequest, enrol.ReasonCertificate}, e.Reason)
}

// each asks relays in their order, until one answers or has refused what another one would as well.
func each(relays []string, ask func(address string) (*relayv1.IssuedCertificate, error)) (*relayv1.IssuedCertificate, error) {
	failed := &Error{}
	var texts []string
	for _, address := range relays {
		issued, err := ask(address)
		if err == nil {
			return issued, nil
		}
		texts = append(texts, fmt.Sprintf("relay %s: %v", address, err))
		refusal, refused := errors.AsType[*enrol.Refusal](err)
		_, distrusted := errors.AsType[*distrustError](err)
		switch {
		case refused && slices.Contains([]enrol.Reason{enrol.ReasonName, enrol.ReasonRequest, enrol.ReasonRevoked}, refusal.Reason):
			// It knows the token, or the certificate.
			return nil, &Error{Reason: refusal.Reason, text: strings.Join(texts, "; "), noFallback: refusal.Reason == enrol.ReasonName && !refusal.KnowsFallback}
		case refused && refusal.Reason != enrol.ReasonLater:
			// Another relay may have made the token, or issued the certificate.
			if failed.Reason == "" || failed.Reason == enrol.ReasonCannotSign {
				failed.Reason = refusal.Reason
			}
		case !distrusted:
			failed.Later = true
		}
	}
	if failed.Later {
		failed.Reason = ""
	}
	if failed.text = strings.Join(texts, "; "); len(texts) == 0 {
		failed.text = "there is no relay to ask"
	}
	return nil, failed
}

// A PinError says that what answered is not the relay that the token is for.
type PinError struct {
	// Want is the pin of the token.
	Want enrol.Pin
	// Met is that of the CA that was shown, if Shown says that one was.
	Met   enrol.Pin
	Shown bool
}

// Error says what may have happened, and how to find out.
func (e *PinError) Error() string {
	met := "it shows no authority at all"
	if e.Shown {
		met = "its authority has the fingerprint " + e.Met.String()
	}
	return fmt.Sprintf("it is not the relay that the token is for: %s, and the token wants %s. Somebody may be in between, or the token is another relay's:"+
		" `relay-server agents token` on the right relay prints tokens with the right fingerprint", met, e.Want)
}

// A distrustError is a relay that is not believed, or that cannot be understood. Only a person can change that.
type distrustError struct{ err error }

// Error returns the reason.
func (e *distrustError) Error() string { return e.err.Error() }

// Unwrap returns the reason.
func (e *distrustError) Unwrap() error { return e.err }

var errNoEnrolment = &distrustError{errors.New("it knows no join tokens: upgrade the relay, or bring the agent in with `relay-server agent-certificate` and the --tls flags")}

// alertNoApplicationProtocol is what a relay answers that does not know the protocol (RFC 7301).
const alertNoApplicationProtocol tls.AlertError = 120

// explainHandshake returns the error of a handshake in words.
func explainHandshake(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no answer within %s", enrol.AttemptTimeout)
	}
	remote, ok := errors.AsType[*net.OpError](err)
	if ok && remote.Op == "remote error" && remote.Err.Error() == alertNoApplicationProtocol.Error() {
		return errNoEnrolment
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &distrustError{mtls.ExplainHandshake(mtls.Agent, err)}
	}
	if _, ok := errors.AsType[*distrustError](err); ok {
		return err
	}
	return fmt.Errorf("TLS handshake: %w", err)
}

// explainCall returns the error of a call in words: a relay's refusal as [*enrol.Refusal], with a message of one line.
func explainCall(err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := enrol.RefusalFrom(err); ok {
		return &enrol.Refusal{Reason: refusal.Reason, Message: tunnel.Text(refusal.Message), KnowsFallback: refusal.KnowsFallback}
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unimplemented:
		return errNoEnrolment
	case codes.DeadlineExceeded:
		return fmt.Errorf("no answer within %s", enrol.AttemptTimeout)
	default:
		return errors.New(tunnel.Text(st.Message()))
	}
}
