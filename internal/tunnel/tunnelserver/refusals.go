package tunnelserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"pushrelay/internal/loglimit"
	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

const (
	// refusalSilence is how long the same refusal of the same address is not logged again, probeSilence the same for what no
	// agent does: a load balancer looks every few seconds.
	refusalSilence = time.Minute
	probeSilence   = time.Hour
)

// refusals counts and logs the handshakes that failed: of each kind and each address seldom enough that none of them hides
// another. It is safe for concurrent use.
type refusals struct {
	logger  *slog.Logger
	metrics *metrics
	lines   *loglimit.Strangers // by fault, host and agent
}

func newRefusals(logger *slog.Logger, m *metrics) *refusals {
	return &refusals{logger: logger, metrics: m, lines: loglimit.NewStrangers()}
}

// add counts a handshake that failed, and logs it if it is its turn.
func (r *refusals) add(conn *tunnel.Conn, state tls.ConnectionState, err error) {
	fault := mtls.FaultOf(state, err)
	if fault == mtls.FaultNone {
		return // only opened and closed: the health check of a load balancer
	}
	r.metrics.refused.WithLabelValues(string(fault)).Inc()
	host, _, splitErr := net.SplitHostPort(conn.RemoteAddr().String())
	if splitErr != nil {
		host = conn.RemoteAddr().String()
	}
	silence := refusalSilence
	if isProbe(fault) {
		silence = probeSilence
	}
	missed, due := r.lines.Due(string(fault), host+" "+tunnel.Version(mtls.AgentOf(state, err)), silence)
	if !due {
		return
	}
	explained := mtls.ExplainHandshake(mtls.Relay, err)
	if fault == mtls.FaultTimeout {
		explained = explainStall(conn, state, err)
	}
	attrs := []any{
		slog.String("addr", conn.RemoteAddr().String()), slog.String("reason", string(fault)), slog.String("err", tunnel.Text(explained.Error())), slog.Int("not_logged", missed),
	}
	if isProbe(fault) {
		r.logger.Info("connection of somebody who is no agent, as health checks make them", attrs...)
		return
	}
	if revoked, ok := errors.AsType[*mtls.RevokedError](err); ok {
		attrs = append(attrs, slog.String("audit", "refused"), slog.String("agent", revoked.Agent), slog.String("serial", mtls.Serial(state.PeerCertificates[0])))
	}
	r.logger.Warn("agent refused in the TLS handshake", attrs...)
}

// isProbe says that no agent does this: what looks whether the port is alive does, and what ends TLS on the way.
func isProbe(fault mtls.Fault) bool {
	switch fault {
	case mtls.FaultNoCertificate, mtls.FaultTLSVersion, mtls.FaultBrokenOff:
		return true
	default:
		return false
	}
}

// explainStall says where a handshake stands on which nothing more came.
func explainStall(conn *tunnel.Conn, state tls.ConnectionState, err error) error {
	switch sent := conn.InFlight(); {
	case state.Version == 0:
		return fmt.Errorf("no TLS hello came: it says nothing, or packets of full size from there do not arrive (MTU on the way): %w", err)
	case sent.Bytes > 0:
		return fmt.Errorf("%d bytes with the relay's certificate were not acknowledged, though its hello came: packets of full size do not get there (MTU on the way): %w", sent.Bytes, err)
	default:
		return fmt.Errorf("its certificate does not come, though its hello came: it hangs, or packets of full size from there do not arrive (MTU on the way): %w", err)
	}
}
