package pushgatewayfile_test

import (
	"bytes"
	"encoding/gob"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/pushgatewayfile"
)

// FuzzRead looks for a Pushgateway's file that is imported and makes an exposition which Prometheus' own library cannot read, or that is
// another store once it is written and imported again.
func FuzzRead(f *testing.F) {
	encode := func(groups map[string]metricGroup) []byte {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(groups); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(encode(map[string]metricGroup{"job\xffj": {
		Labels: map[string]string{"job": "j"},
		Metrics: map[string]timestampedMetricFamily{
			"m": family("m", dto.MetricType_COUNTER, []string{"instance", "", "job", "j"}, []string{"a", "b", "instance", "", "job", "j"}), "push_time_seconds": timeFamily("push_time_seconds", pushed),
		},
	}, "x": {Labels: map[string]string{"job": "k", "a": "b"}, Metrics: map[string]timestampedMetricFamily{"m": family("m", dto.MetricType_GAUGE, []string{"job", "k"})}}}))
	f.Add(encode(map[string]metricGroup{"": {Labels: map[string]string{"a": "\xff"}}}))
	dir := f.TempDir() // each process of a fuzzer has one of its own
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 64<<10 {
			return
		}
		path := filepath.Join(dir, "persistence")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := pushgatewayfile.Read(path)
		if err != nil {
			return
		}
		s := groupstore.New(groupstore.Config{})
		if _, err := file.Import(t.Context(), s, nil); err != nil {
			t.Fatalf("a file that was read is not imported: %v", err)
		}
		exposition := text(t, s)
		if _, err := parser().TextToMetricFamilies(strings.NewReader(exposition)); err != nil {
			t.Fatalf("what is exposed cannot be read: %v\n%s", err, exposition)
		}
		written, err := pushgatewayfile.Write(path, s.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if written.Hidden > 0 {
			return // it is not in the file
		}
		if file, err = pushgatewayfile.Read(path); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		again := groupstore.New(groupstore.Config{})
		report, err := file.Import(t.Context(), again, nil)
		if err != nil || len(report.LeftOut) > 0 || len(report.Quarantined) > 0 || report.Groups != written.Groups {
			t.Errorf("what was written is imported as %+v, %v, want %+v", report, err, written)
		}
		if before, after := samples(exposition), samples(text(t, again)); !slices.Equal(before, after) {
			t.Errorf("it exposes\n%s\nand before\n%s", after, before)
		}
	})
}

func parser() *expfmt.TextParser {
	p := expfmt.NewTextParser(model.UTF8Validation)
	return &p
}

// samples are the lines of an exposition with values.
func samples(text string) []string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
	slices.Sort(lines)
	return lines
}
