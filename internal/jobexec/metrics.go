package jobexec

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// ownMetric is one of the metrics of a run, a gauge.
type ownMetric struct{ name, help string }

var (
	lastRun     = ownMetric{"job_last_run_timestamp_seconds", "When the last run of the job ended, in seconds since the epoch."}
	lastSuccess = ownMetric{"job_last_success_timestamp_seconds", "When the last run of the job with exit code 0 ended, in seconds since the epoch."}
	duration    = ownMetric{"job_duration_seconds", "How long the last run of the job took."}
	exitCode    = ownMetric{"job_exit_code", "Exit code of the last run of the job: 124 its time was over, 126 and 127 it did not start, above 128 ended by that signal."}
	maxResident = ownMetric{"job_max_resident_memory_bytes", "Most resident memory of one process of the last run of the job."}
	running     = ownMetric{"job_running", "Whether the job runs, 1, or not, 0."}
	lastStart   = ownMetric{"job_last_start_timestamp_seconds", "When the last run of the job started, in seconds since the epoch."}
	cpu         = ownMetric{"job_cpu_seconds", "Processor time that the last run of the job used, in user and system mode."}
)

// runMetrics are the metrics of every run, and startMetrics those that are pushed at its start as well.
var (
	runMetrics   = []ownMetric{lastRun, lastSuccess, duration, exitCode, maxResident, cpu}
	startMetrics = []ownMetric{running, lastStart}
)

// metrics returns the metrics that the run may have, which the command must not write.
func (r *run) metrics() []ownMetric {
	if r.reportedStart.IsZero() {
		return runMetrics
	}
	return slices.Concat(runMetrics, startMetrics)
}

// appendStart appends when the run started, and whether it still runs.
func appendStart(b []byte, at time.Time, runs float64) []byte {
	return lastStart.append(running.append(b, runs), secondsOf(at))
}

// exposition returns the metrics of the run. What is not known, and the last success after a failure, is left out: a push
// that merges leaves it as it was.
func (r *run) exposition() []byte {
	at := secondsOf(r.endedAt)
	b := lastRun.append(nil, at)
	if r.exitCode == 0 {
		b = lastSuccess.append(b, at)
	}
	b = duration.append(b, r.duration.Seconds())
	b = exitCode.append(b, float64(r.exitCode))
	if r.usage.known {
		b = cpu.append(b, r.usage.cpu.Seconds())
	}
	if r.usage.maxResidentBytes > 0 {
		b = maxResident.append(b, float64(r.usage.maxResidentBytes))
	}
	if !r.reportedStart.IsZero() {
		b = appendStart(b, r.reportedStart, 0)
	}
	return b
}

// secondsOf returns a time in seconds since the epoch, to the millisecond.
func secondsOf(at time.Time) float64 { return float64(at.UnixMilli()) / 1000 }

func (m ownMetric) append(b []byte, value float64) []byte {
	b = fmt.Appendf(b, "# HELP %s %s\n# TYPE %s gauge\n%s ", m.name, m.help, m.name, m.name)
	return append(strconv.AppendFloat(b, value, 'f', -1, 64), '\n')
}
