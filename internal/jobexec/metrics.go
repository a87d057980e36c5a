package jobexec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"pushrelay/internal/exposition"
)

// MetricsFileVariable is the environment variable by which a command finds the file for metrics of its own.
const MetricsFileVariable = "RELAY_METRICS_FILE"

// maxMetricsBytes bounds what is read of that file: the largest body that an agent takes by default.
const maxMetricsBytes = 16 << 20

// metric is one of the metrics of a run, a gauge.
type metric struct{ name, help string }

var (
	lastRun     = metric{"job_last_run_timestamp_seconds", "When the last run of the job ended, in seconds since the epoch."}
	lastSuccess = metric{"job_last_success_timestamp_seconds", "When the last run of the job with exit code 0 ended, in seconds since the epoch."}
	duration    = metric{"job_duration_seconds", "How long the last run of the job took."}
	exitCode    = metric{"job_exit_code", "Exit code of the last run of the job: 124 its time was over, 126 and 127 it did not start, above 128 ended by that signal."}
	maxResident = metric{"job_max_resident_memory_bytes", "Most resident memory of one process of the last run of the job."}
	cpu         = metric{"job_cpu_seconds", "Processor time that the last run of the job used, in user and system mode."}
)

// ownMetrics are all metrics of a run; the command must not write them.
var ownMetrics = []metric{lastRun, lastSuccess, duration, exitCode, maxResident, cpu}

// exposition returns the metrics of the run. What is not known, and the last success after a failure, is left out: a push
// that merges leaves it as it was.
func (r *run) exposition() []byte {
	at := float64(r.endedAt.UnixMilli()) / 1000
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
	return b
}

func (m metric) append(b []byte, value float64) []byte {
	b = fmt.Appendf(b, "# HELP %s %s\n# TYPE %s gauge\n%s ", m.name, m.help, m.name, m.name)
	return append(strconv.AppendFloat(b, value, 'f', -1, 64), '\n')
}

// metricsFile is the file to which a command may write metrics of its own. A nil one is none.
type metricsFile struct{ path string }

// newMetricsFile makes an empty file that nobody else can read.
func newMetricsFile() (*metricsFile, error) {
	f, err := os.CreateTemp("", "relay-metrics-*.prom")
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(f.Name()) // the command may go elsewhere
	if err != nil {
		return nil, err
	}
	return &metricsFile{path: path}, nil
}

// environment returns the environment of the command: with the file, and never with that of another job around this one.
func (f *metricsFile) environment(env []string) []string {
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, MetricsFileVariable+"=") })
	if f == nil {
		return env
	}
	return append(env, MetricsFileVariable+"="+f.path)
}

func (f *metricsFile) remove() {
	if f != nil {
		os.Remove(f.path) //nolint:errcheck // The command may have removed it.
	}
}

// read returns what the command wrote, if that can be pushed beside the metrics of the run.
func (f *metricsFile) read() ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	content, err := readRegular(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed: a way to write nothing
	}
	if err != nil {
		return nil, err
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		content = append(content, '\n') // echo -n and printf leave it out
	}
	if err := check(content); err != nil {
		return nil, err
	}
	return content, nil
}

// readRegular reads a file that is one: a command may have put a pipe there, which would be waited for.
func readRegular(path string) ([]byte, error) {
	found, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !found.Mode().IsRegular() {
		return nil, errors.New("the command replaced it by something that is no file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // It was only read.
	content, err := io.ReadAll(io.LimitReader(file, maxMetricsBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxMetricsBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxMetricsBytes)
	}
	return content, nil
}

// check refuses what is malformed, also when there is no agent to do so, and what is not the command's to say.
func check(content []byte) error {
	body, err := new(exposition.Parser).ParseText(content, exposition.Options{Names: exposition.UTF8Names})
	if err != nil {
		return err
	}
	for _, family := range body.Families {
		if slices.ContainsFunc(ownMetrics, func(m metric) bool { return m.name == string(family.Name) }) {
			return fmt.Errorf("%s is a metric of the run itself: give yours another name", family.Name)
		}
	}
	return nil
}
