package relay

import "github.com/prometheus/client_golang/prometheus"

// The doors of the tests.
var (
	NewLegacyInstrument = newLegacyInstrument
	LegacyFamilies      = legacyFamilies
)

// Telemetry returns the registry of the relay's own metrics.
func (s *Server) Telemetry() *prometheus.Registry { return s.telemetry }
