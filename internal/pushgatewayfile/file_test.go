package pushgatewayfile_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/pushgatewayfile"
)

// The types with which a Pushgateway writes its file.
type (
	metricGroup struct {
		Labels  map[string]string
		Metrics map[string]timestampedMetricFamily
	}
	timestampedMetricFamily struct {
		Timestamp            time.Time
		GobbableMetricFamily *gobbableMetricFamily
	}
	gobbableMetricFamily dto.MetricFamily
)

func (f *gobbableMetricFamily) GobEncode() ([]byte, error) {
	return proto.Marshal((*dto.MetricFamily)(f))
}

func (f *gobbableMetricFamily) GobDecode(b []byte) error {
	return proto.Unmarshal(b, (*dto.MetricFamily)(f))
}

var pushed = time.Unix(1_700_000_000, 123_456_789).UTC()

// family returns a family of gauges with the given labels each, as name and value in turn.
func family(name string, typ dto.MetricType, series ...[]string) timestampedMetricFamily {
	mf := &dto.MetricFamily{Name: proto.String(name), Type: &typ, Help: proto.String("Help.")}
	for i, labels := range series {
		m := &dto.Metric{}
		for j := 0; j < len(labels); j += 2 {
			m.Label = append(m.Label, &dto.LabelPair{Name: &labels[j], Value: &labels[j+1]})
		}
		value := float64(i) + 0.5
		if typ == dto.MetricType_COUNTER {
			m.Counter = &dto.Counter{Value: &value}
		} else {
			m.Gauge = &dto.Gauge{Value: &value}
		}
		mf.Metric = append(mf.Metric, m)
	}
	return timestampedMetricFamily{pushed, (*gobbableMetricFamily)(mf)}
}

func timeFamily(name string, at time.Time) timestampedMetricFamily {
	f := family(name, dto.MetricType_GAUGE, []string{"instance", "", "job", "j"})
	f.Timestamp = at
	value := 0.0
	if !at.IsZero() {
		value = float64(at.UnixNano()) / 1e9
	}
	f.GobbableMetricFamily.Metric[0].Gauge.Value = &value
	return f
}

func writeGob(t *testing.T, groups map[string]metricGroup) string {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(groups); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "persistence")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func importFile(t *testing.T, s *groupstore.Store, path string) pushgatewayfile.Report {
	t.Helper()
	f, err := pushgatewayfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	report, err := f.Import(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func text(t *testing.T, s *groupstore.Store) string {
	t.Helper()
	var b strings.Builder
	if err := s.Snapshot().Write(&b, groupstore.Form{Escaping: metric.AllowUTF8}, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// groups returns all that the store says of its groups.
func groups(s *groupstore.Store) []string {
	var all []string
	for g := range s.Snapshot().Groups() {
		all = append(all, fmt.Sprint(g.Key(), g.PushTime(), g.FailureTime()))
		for f := range g.Families() {
			all = append(all, fmt.Sprint(f.Name(), f.Help(), f.Unit(), f.Type(), f.PushTime()))
			for m := range f.Metrics() {
				b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
				all = append(all, string(b))
			}
		}
	}
	return all
}

// TestImport reads what a Pushgateway of today writes.
func TestImport(t *testing.T) {
	failed := pushed.Add(time.Hour)
	path := writeGob(t, map[string]metricGroup{
		"job\xffj": {
			Labels: map[string]string{"job": "j"},
			Metrics: map[string]timestampedMetricFamily{
				"m":                         family("m", dto.MetricType_COUNTER, []string{"instance", "", "job", "j"}, []string{"a", "b", "instance", "", "job", "j"}),
				"utf8.name":                 family("utf8.name", dto.MetricType_GAUGE, []string{"instance", "", "job", "j"}),
				"push_time_seconds":         timeFamily("push_time_seconds", pushed),
				"push_failure_time_seconds": timeFamily("push_failure_time_seconds", failed),
			},
		},
	})
	s := groupstore.New(groupstore.Config{MaxSeries: 1, MaxGroups: 1})
	report := importFile(t, s, path)
	if diff := cmp.Diff(pushgatewayfile.Report{Groups: 1, Families: 2}, report); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	want := `# HELP m Help.
# TYPE m counter
m{instance="",job="j"} 0.5
m{a="b",instance="",job="j"} 1.5
# HELP push_failure_time_seconds Last Unix time when changing this group in the Pushgateway failed.
# TYPE push_failure_time_seconds gauge
push_failure_time_seconds{instance="",job="j"} 1.7000036001234567e+09
# HELP push_time_seconds Last Unix time when changing this group in the Pushgateway succeeded.
# TYPE push_time_seconds gauge
push_time_seconds{instance="",job="j"} 1.7000000001234567e+09
# HELP "utf8.name" Help.
# TYPE "utf8.name" gauge
{"utf8.name",instance="",job="j"} 0.5
`
	if diff := cmp.Diff(want, text(t, s)); diff != "" {
		t.Errorf("exposition (-want +got):\n%s", diff)
	}
	for g := range s.Snapshot().Groups() {
		if !g.PushTime().Equal(pushed) || !g.FailureTime().Equal(failed) {
			t.Errorf("times %v and %v, want %v and %v to the nanosecond", g.PushTime(), g.FailureTime(), pushed, failed)
		}
	}
}

// TestImportOfWhatDoesNotFit: what clashes is kept aside, what cannot be taken is left out and told, the rest is there.
func TestImportOfWhatDoesNotFit(t *testing.T) {
	path := writeGob(t, map[string]metricGroup{
		"1": {map[string]string{"job": "a"}, map[string]timestampedMetricFamily{
			"m":    family("m", dto.MetricType_COUNTER, []string{"job", "a"}),
			"good": family("good", dto.MetricType_GAUGE, []string{"job", "a"}),
			"own":  family("own", dto.MetricType_COUNTER, []string{"job", "a"}),
			"bad":  family("bad", dto.MetricType_GAUGE, []string{"job", "a", "", "no name"}),
			"none": {Timestamp: pushed},
		}},
		"2": {map[string]string{"job": "b"}, map[string]timestampedMetricFamily{"m": family("m", dto.MetricType_GAUGE, []string{"job", "b"})}},
		"3": {map[string]string{"job": ""}, nil},
		"4": {map[string]string{"job": "c"}, nil},
		"5": {map[string]string{"job": "old"}, map[string]timestampedMetricFamily{"old": family("old", dto.MetricType_GAUGE, []string{"job", "old"})}},
	})
	s := groupstore.New(groupstore.Config{OwnFamilies: []groupstore.OwnFamily{{Name: "own", Type: metric.Gauge}}})
	key, err := grouping.New(grouping.Label{Name: "job", Value: "old"})
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := s.Apply(t.Context(), &change.Change{Operation: change.Replace, Key: key, At: pushed}, groupstore.Content{}); !o.IsTaken() {
		t.Fatal(o)
	}
	r := importFile(t, s, path)
	if r.Groups != 3 || r.Families != 4 || r.Kept != 1 || len(r.Quarantined) != 2 || len(r.LeftOut) != 2 {
		t.Errorf("report: %+v", r)
	}
	if got := text(t, s); !strings.Contains(got, "good{") || !strings.Contains(got, "# TYPE m counter") || strings.Contains(got, "own{") || strings.Contains(got, "bad{") || strings.Contains(got, "old{") {
		t.Errorf("exposition:\n%s", got)
	}
}

func TestReadRefuses(t *testing.T) {
	if _, err := pushgatewayfile.Read(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of a missing file = %v, want %v", err, fs.ErrNotExist)
	}
	path := writeGob(t, map[string]metricGroup{"1": {map[string]string{"job": "a"}, map[string]timestampedMetricFamily{
		"m": family("m", dto.MetricType_COUNTER, []string{"job", "a"}),
	}}})
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damaged := range map[string][]byte{
		"empty":       {},
		"text":        []byte("m 1\n"),
		"truncated":   content[:len(content)-1],
		"longer":      append(bytes.Clone(content), 'x'),
		"other types": gobOf(t, []string{"a"}),
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := pushgatewayfile.Read(path); err == nil {
			t.Errorf("%s: Read = %v groups", name, f.Len())
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, damaged) {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
	}
	// A byte that is wrong may show or not; nothing panics.
	for i := range content {
		flipped := bytes.Clone(content)
		flipped[i] ^= 0x11
		if err := os.WriteFile(path, flipped, 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := pushgatewayfile.Read(path); err == nil {
			f.Import(t.Context(), groupstore.New(groupstore.Config{}), nil)
		}
	}
}

func gobOf(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWriteAndImport writes what a store holds, and makes another of it.
func TestWriteAndImport(t *testing.T) {
	s := groupstore.New(groupstore.Config{Check: groupstore.CheckQuarantine})
	push := func(job, text string, at time.Time) {
		t.Helper()
		key, err := grouping.New(grouping.Label{Name: "job", Value: job}, grouping.Label{Name: "instance", Value: "i"})
		if err != nil {
			t.Fatal(err)
		}
		var p exposition.Parser
		body, err := p.ParseText([]byte(text), exposition.Options{Names: metric.UTF8Names})
		if err != nil {
			t.Fatal(err)
		}
		if o, _ := s.Apply(t.Context(), &change.Change{Operation: change.Merge, Key: key, At: at}, groupstore.Content{Body: body}); !o.IsTaken() {
			t.Fatal(o)
		}
		failed := &change.Change{Operation: change.Fail, Key: key, At: at.Add(time.Nanosecond)}
		if o, _ := s.Apply(t.Context(), failed, groupstore.Content{Fault: "it was malformed"}); !o.IsTaken() {
			t.Fatal(o)
		}
	}
	push("a", "# HELP m Help.\n# TYPE m counter\nm{x=\"1\"} 1\nm{x=\"2\"} NaN\n", pushed)
	push("a", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", pushed.Add(time.Minute))
	push("b", "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 3\ns_count 2\nu 1e9\n", pushed)
	want := groups(s)
	push("c", "# TYPE m gauge\nm 1\n", pushed) // does not fit

	path := filepath.Join(t.TempDir(), "persistence")
	written, err := pushgatewayfile.Write(path, s.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pushgatewayfile.Written{Groups: 3, Families: 10, Hidden: 1}, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", stat.Mode(), err)
	}
	again := groupstore.New(groupstore.Config{})
	importFile(t, again, path)
	key, err := grouping.New(grouping.Label{Name: "job", Value: "c"}, grouping.Label{Name: "instance", Value: "i"})
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := again.Apply(t.Context(), &change.Change{Operation: change.Delete, Key: key}, groupstore.Content{}); !o.IsTaken() {
		t.Fatal(o)
	}
	if diff := cmp.Diff(want, groups(again)); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left beside the file: %v, %v", left, err)
	}
}

func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "persistence")
	if _, err := pushgatewayfile.Write(path, groupstore.New(groupstore.Config{}).Snapshot()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Write into a missing directory = %v", err)
	}
}

// TestImportRefusedByLog: an import that is not durable is no import.
func TestImportRefusedByLog(t *testing.T) {
	broken := errors.New("disk full")
	path := writeGob(t, map[string]metricGroup{"1": {Labels: map[string]string{"job": "a"}}})
	f, err := pushgatewayfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, log := range map[string]failingLog{"append": {append: broken}, "wait": {wait: broken}} {
		if _, err := f.Import(t.Context(), groupstore.New(groupstore.Config{Appender: log}), nil); !errors.Is(err, broken) {
			t.Errorf("%s: Import = %v, want %v", name, err, broken)
		}
	}
}

type failingLog struct{ append, wait error }

func (l failingLog) Append(uint64, groupstore.Effect) (func(context.Context) error, error) {
	return func(context.Context) error { return l.wait }, l.append
}
