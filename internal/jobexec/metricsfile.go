package jobexec

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// MetricsFileVariable is the environment variable by which a command finds the file for metrics of its own.
const MetricsFileVariable = "RELAY_METRICS_FILE"

// maxMetricsBytes bounds what is read of that file: the largest body that an agent takes by default.
const maxMetricsBytes = 16 << 20

// metricsDirPattern is the name of the directory that a job makes for its file, and abandonedAfter from when on one whose job
// is gone is removed: a command may outlive its job, and write to the file still.
const (
	metricsDirPattern = "relay-metrics-*"
	abandonedAfter    = 24 * time.Hour
)

// metricsFile is the file to which a command may write metrics of its own. A nil one is none.
//
// The command may change its user and write all the same: so the file is everybody's to write who knows its name, which only the
// environment of the command tells. Its directory can be passed through and not listed.
type metricsFile struct {
	path string
	lock *os.File // the directory; locked as long as the job lives, where the system can
}

// newMetricsFile makes an empty file, in the first of the places where that is possible. Before that it removes there what
// jobs left that were killed.
func newMetricsFile(places []string) (*metricsFile, error) {
	err := errors.New("there is no directory for temporary files")
	for i, place := range places {
		removeAbandoned(place)
		f, placeErr := makeMetricsFile(place)
		if placeErr == nil {
			return f, nil
		}
		if i == 0 {
			err = placeErr // that of the place that was asked for
		}
	}
	return nil, err
}

func makeMetricsFile(place string) (*metricsFile, error) {
	place, err := filepath.Abs(place) // the command may go elsewhere
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(place, metricsDirPattern)
	if err != nil {
		return nil, err
	}
	f := &metricsFile{path: filepath.Join(dir, rand.Text()+".prom"), lock: lockDir(dir)}
	if err := f.create(); err != nil {
		f.remove()
		return nil, err
	}
	return f, nil
}

func (f *metricsFile) create() error {
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.path, 0o666); err != nil { //nolint:gosec // See the type: the name is the secret.
		return err
	}
	return os.Chmod(filepath.Dir(f.path), 0o711) //nolint:gosec // To pass through.
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
	if f == nil {
		return
	}
	os.RemoveAll(filepath.Dir(f.path)) //nolint:errcheck // What is left is removed by a later job.
	if f.lock != nil {
		f.lock.Close() //nolint:errcheck // It was only locked.
	}
}

// removeAbandoned removes the directories of jobs of this user that were killed a while ago.
func removeAbandoned(place string) {
	dirs, err := filepath.Glob(filepath.Join(place, metricsDirPattern))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		found, err := os.Lstat(dir)
		if err == nil && found.IsDir() && time.Since(found.ModTime()) > abandonedAfter && isAbandoned(dir, found) {
			os.RemoveAll(dir) //nolint:errcheck // A later job tries again.
		}
	}
}

// read returns what the command wrote, if that can be pushed beside the metrics of the run.
func (f *metricsFile) read(ofRun []ownMetric) ([]byte, error) {
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
	content = exposition.Tidy(content)
	if err := check(content, ofRun); err != nil {
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

// check refuses what is malformed, also when there is no agent to do so, and the metrics of the run, which are not the command's to say.
func check(content []byte, ofRun []ownMetric) error {
	body, err := new(exposition.Parser).ParseText(content, exposition.Options{Names: metric.UTF8Names})
	if err != nil {
		return errors.New(exposition.DiagnoseFile(err, content))
	}
	for _, family := range body.Families {
		if slices.ContainsFunc(ofRun, func(m ownMetric) bool { return m.name == string(family.Name) }) {
			return fmt.Errorf("%s is a metric of the run itself: give yours another name", family.Name)
		}
	}
	return nil
}
