package tunnelclient

import (
	"log/slog"
	"slices"
	"strings"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/tunnel"
)

// takeDenied takes which targets the relay does not list, and says it if it is something else than before, also if that was in an earlier session.
func (l *Link) takeDenied(m *relayv1.TargetsDenied) {
	d := tunnel.DeniedFromProto(m)
	l.mu.Lock()
	l.status.Denied = d
	same := d.Count == l.saidDenied.Count && d.Message == l.saidDenied.Message && slices.Equal(d.Targets, l.saidDenied.Targets)
	l.saidDenied = d
	l.mu.Unlock()
	switch {
	case same:
	case d.Count == 0:
		l.cfg.Logger.Info("the relay lists all targets again", slog.String("addr", l.cfg.Address))
	case l.denials.Allow():
		l.cfg.Logger.Warn("the relay does not list some targets: its policy does not let this agent serve them, and Prometheus neither finds nor scrapes them there",
			slog.String("addr", l.cfg.Address), slog.Int("count", d.Count), slog.String("targets", strings.Join(d.Targets, ", ")), slog.String("reason", d.Message))
	}
}
