package tunnelserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

const (
	// refusalSilence is how long the same refusal of the same address is not logged again, probeSilence the same for what no
	// agent does: a load balancer looks every few seconds.
	refusalSilence = time.Minute
	probeSilence   = time.Hour
	// maxRefusals bounds what is remembered; anybody can be refused, from as many addresses as they have.
	maxRefusals = 4096
)

// refusals counts and logs the handshakes that failed: of each kind and each address seldom enough that none of them hides
// another. It is safe for concurrent use.
type refusals struct {
	logger  *slog.Logger
	metrics *metrics
	limits  map[mtls.Fault]*rate.Limiter // of log lines; static

	mu     sync.Mutex
	logged map[refusal]*refusalCount // guarded by mu
}

// refusal is what makes one refusal the same as another.
type refusal struct {
	fault       mtls.Fault
	host, agent string
}

// refusalCount is when a refusal was logged last, and how often it came since.
type refusalCount struct {
	at     time.Time
	missed int
}

func newRefusals(logger *slog.Logger, m *metrics) *refusals {
	r := &refusals{logger: logger, metrics: m, limits: map[mtls.Fault]*rate.Limiter{}, logged: map[refusal]*refusalCount{}}
	for _, fault := range mtls.Faults() {
		r.limits[fault] = rate.NewLimiter(rate.Every(time.Second), 10)
	}
	return r
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
	missed, due := r.due(refusal{fault: fault, host: host, agent: tunnel.Version(mtls.AgentOf(state, err))}, time.Now())
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

// due says whether a refusal is to be logged now, and how many of its kind were not since the last time.
func (r *refusals) due(key refusal, now time.Time) (missed int, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	silence := refusalSilence
	if isProbe(key.fault) {
		silence = probeSilence
	}
	last, known := r.logged[key]
	if known && now.Sub(last.at) < silence || !r.limits[key.fault].AllowN(now, 1) {
		if known {
			last.missed++
		}
		return 0, false
	}
	if !known {
		if len(r.logged) >= maxRefusals {
			clear(r.logged) // the limit of the kind is left
		}
		last = &refusalCount{}
		r.logged[key] = last
	}
	missed = last.missed
	*last = refusalCount{at: now}
	return missed, true
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
