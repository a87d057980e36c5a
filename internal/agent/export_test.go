package agent

import "github.com/prometheus/client_golang/prometheus"

// Telemetry returns the registry of the agent's own metrics.
func (a *Agent) Telemetry() *prometheus.Registry { return a.registry }
