package enrolserver

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/strangers"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
)

// refusalSilence is how long the same refusal of the same address is not logged again.
const refusalSilence = time.Minute

// asker is who asks for a certificate, for the log.
type asker struct {
	address string
	// token is the id that was shown, agent the name that was asked for, serial that of the certificate which is to be renewed. Empty for none.
	token, agent, serial string
	// known is the token, or the agent, of which this relay knows; empty before that is found out. There are no more than of these.
	known string
	// why says of a token what whoever shows it is not told: whether it is unknown, spent, or its secret wrong.
	why string
}

// askerWith returns who shows a token.
func askerWith(in *relayv1.EnrollRequest, address string) *asker {
	who := &asker{address: address}
	if id := in.GetTokenId(); len(id) == len(enrol.TokenID{}) {
		who.token = hex.EncodeToString(id)
	}
	if name := cmp.Or(in.GetName(), in.GetFallbackName()); mtls.CheckAgentName(name) == nil {
		who.agent = name
	}
	return who
}

// ofCertificate notes whose certificate was verified.
func (who *asker) ofCertificate(agent string, cert *x509.Certificate) {
	who.agent, who.serial, who.known = agent, mtls.Serial(cert), "agent "+agent
}

// tell counts and logs a refusal. Strangers hide neither one another nor those who have a token or a certificate.
func (s *Server) tell(who *asker, refusal *enrol.Refusal) {
	s.refused.WithLabelValues(string(refusal.Reason)).Inc()
	kind := string(refusal.Reason)
	if who.known != "" {
		kind += " known"
	}
	missed, due := s.refusals.Due(kind, strangers.PrefixOf(who.address).String()+" "+who.known, refusalSilence)
	if !due {
		return
	}
	attrs := []any{slog.String("audit", "refused"), slog.String("addr", who.address), slog.String("reason", string(refusal.Reason))}
	for _, attr := range []slog.Attr{slog.String("token", who.token), slog.String("agent", who.agent), slog.String("serial", who.serial)} {
		if attr.Value.String() != "" {
			attrs = append(attrs, attr)
		}
	}
	s.cfg.Logger.Warn("certificate refused", append(attrs, slog.String("detail", cmp.Or(who.why, refusal.Message)), slog.Int("not_logged", missed))...)
}
