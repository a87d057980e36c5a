package relay

import (
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/lifetime"
)

// The doors of the tests.
var (
	NewLegacyInstrument = newLegacyInstrument
	LegacyFamilies      = legacyFamilies
)

// Telemetry returns the registry of the relay's own metrics.
func (s *Server) Telemetry() *prometheus.Registry { return s.telemetry }

// Regime returns what holds of the lives of groups.
func (s *Server) Regime() lifetime.Regime {
	s.using.Lock()
	defer s.using.Unlock()
	return lifetime.Regime{Rules: s.rules, ForgetAfter: s.opts.GroupsForgetAfter}
}
