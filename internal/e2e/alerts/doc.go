// Package alerts tests what watches the programs: alerts and their unit tests, dashboards, the runbook, and how the death of a pusher is told.
package alerts
