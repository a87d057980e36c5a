package tunnelserver

import (
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/roster"
	"pushrelay/internal/tunnel"
)

// TellWithheld tells the agent which of its targets are not listed, unless it is of a release that does not know the question. See roster.Session.
func (ss *session) TellWithheld(w roster.Withheld) {
	if !ss.denials {
		return
	}
	d := tunnel.Denied{Count: w.Count, Targets: w.Names}
	if w.Why != nil {
		d.Message = w.Why.Error()
	}
	ss.enqueue(&relayv1.AttachResponse{Event: &relayv1.AttachResponse_TargetsDenied{TargetsDenied: tunnel.DeniedToProto(d)}})
}
