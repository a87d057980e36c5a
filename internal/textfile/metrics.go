package textfile

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics exposes what the last look found. The names of files and directories are labels: they are those of the host's
// own administrator, and bounded by maxFiles.
type metrics struct {
	pushes                                     *prometheus.CounterVec
	files, waiting, failed, directories, mtime *prometheus.Desc
	found                                      atomic.Pointer[findings]
}

// findings are the result of a look. They are immutable.
type findings struct {
	files       []fileFound
	directories map[string]error // by path, why it could not be used; nil if it could
	waiting     int
}

type fileFound struct {
	path   string
	fault  error // why it cannot be used as it is; nil if it can
	pushed time.Time
}

func newMetrics(reg prometheus.Registerer) *metrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("relay_agent_textfile_"+name, help, labels, nil)
	}
	m := &metrics{
		pushes: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "relay_agent_textfile_pushes_total",
			Help: "Pushes of text files, and deletes of removed ones, by result: taken, refused for good, or not possible at the time.",
		}, []string{"result"}),
		files:       describe("files", "Text files that are there, good or not."),
		waiting:     describe("waiting_files", "Text files, and removed ones, of which the agent itself could not take the push yet, or that may be half written."),
		failed:      describe("error", "Whether the text file cannot be used as it is; its last good content stays.", "file"),
		directories: describe("directory_error", "Whether the directory cannot be read, or something in it is not looked at; nothing is deleted because of that.", "directory"),
		mtime:       describe("mtime_seconds", "When the content of the text file that was pushed last was modified, in seconds since the epoch.", "file"),
	}
	m.found.Store(&findings{})
	reg.MustRegister(m)
	return m
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.files, m.waiting, m.failed, m.directories, m.mtime} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	found := m.found.Load()
	gauge(m.files, float64(len(found.files)))
	gauge(m.waiting, float64(found.waiting))
	for path, fault := range found.directories {
		gauge(m.directories, oneIf(fault != nil), path)
	}
	for _, f := range found.files {
		gauge(m.failed, oneIf(f.fault != nil), f.path)
		if !f.pushed.IsZero() {
			gauge(m.mtime, seconds(f.pushed), f.path)
		}
	}
}

// Fault is a text file that is not pushed as it is, or a directory of which that is so.
type Fault struct {
	Path string
	Err  error
}

// Faults returns what the last look found at fault, sorted by path.
func (c *Collector) Faults() []Fault {
	found := c.metrics.found.Load()
	var faults []Fault
	for path, err := range found.directories {
		if err != nil {
			faults = append(faults, Fault{path, err})
		}
	}
	for _, f := range found.files {
		if f.fault != nil {
			faults = append(faults, Fault{f.path, f.fault})
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return cmp.Compare(a.Path, b.Path) })
	return faults
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// seconds returns a time in seconds since the epoch.
func seconds(t time.Time) float64 { return float64(t.Unix()) + float64(t.Nanosecond())/1e9 }
