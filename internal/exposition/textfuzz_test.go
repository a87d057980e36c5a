package exposition_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// namesInBraces finds bodies in which a metric name stands inside the braces although there may be histograms or
// summaries: expfmt mixes them up with the line above.
var namesInBraces = regexp.MustCompile(`(?m)^[ \t]*\{`)

// FuzzParseText compares the scanner with expfmt: both accept or both reject, on the same line, and what they accept they
// understand alike. What is let pass is on the list of differences of Parser.
func FuzzParseText(f *testing.F) {
	for _, body := range seeds(f) {
		f.Add(body, false)
		f.Add(body, true)
	}
	parser := new(exposition.Parser)
	f.Fuzz(func(t *testing.T, body []byte, utf8Names bool) {
		names := metric.LegacyNames
		if utf8Names {
			names = metric.UTF8Names
		}
		compareText(t, parser, body, names)
	})
}

func compareText(t *testing.T, parser *exposition.Parser, body []byte, names metric.NameScheme) {
	t.Helper()
	before := string(body)
	got, err := parser.ParseText(body, exposition.Options{Names: names})
	want, wantErr := parseReference(body, names)
	if before != string(body) {
		t.Fatal("the parser wrote to the body")
	}
	if err == nil && wantErr == nil {
		if namesInBraces.Match(body) && hasParts(want) {
			return
		}
		if got, want := withoutTimestamps(t, render(t, got)), withoutTimestamps(t, renderReference(t, want)); got != want {
			t.Fatalf("ParseText(%q) =\n%swant\n%s", body, got, want)
		}
		return
	}
	if err == nil {
		if strings.HasPrefix(wantErr.Error(), "panic: ") || namesInBraces.Match(body) {
			return
		}
		t.Fatalf("ParseText(%q) succeeds, the reference says %q", body, wantErr)
	}
	if wantErr == nil {
		if !isKnownDifference(err, body) {
			t.Fatalf("ParseText(%q) returned the error %q, the reference takes it", body, err)
		}
		return
	}
	var inconsistent *exposition.InconsistentError
	var mine *exposition.ParseError
	var theirs expfmt.ParseError
	switch {
	case errors.As(err, &inconsistent):
		t.Fatalf("ParseText(%q) returned the error %q, the reference says %q", body, err, wantErr)
	case !errors.As(err, &mine):
		t.Fatalf("ParseText(%q) returned an error of type %T", body, err)
	case errors.As(wantErr, &theirs) && mine.Line != theirs.Line && !isKnownDifference(err, body):
		t.Fatalf("ParseText(%q) returned the error %q, the reference says %q", body, err, wantErr)
	}
}

func isKnownDifference(err error, body []byte) bool {
	text := err.Error()
	switch {
	case strings.Contains(text, "was collected before"), strings.Contains(text, "has a label with an invalid name: __"):
		return true
	case strings.Contains(text, "duplicate label names"):
		return strings.Count(string(body), "le") > 1 || strings.Count(string(body), "quantile") > 1
	case strings.Contains(text, "invalid count for summary"):
		return true
	default:
		return namesInBraces.Match(body) && strings.Contains(string(body), "TYPE")
	}
}

func hasParts(families map[string]*dto.MetricFamily) bool {
	for _, f := range families {
		switch f.GetType() {
		case dto.MetricType_SUMMARY, dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
			return true
		default:
		}
	}
	return false
}

// withoutTimestamps puts an @ in place of each timestamp. Values cannot be taken for one: they are behind a timestamp's
// only blank.
func withoutTimestamps(t *testing.T, text string) string {
	t.Helper()
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "# ") {
			continue
		}
		// A line is a series, a blank, a value, and maybe a blank and a timestamp. The series may hold blanks in quotes.
		tail := line[strings.LastIndexAny(line, `}"`)+1:]
		fields := strings.Fields(tail)
		want := 1
		if !strings.HasPrefix(tail, " ") {
			want = 2
		}
		if len(fields) > want {
			lines[i] = strings.TrimSuffix(line, " "+fields[len(fields)-1]+"\n") + " @\n"
		}
	}
	return strings.Join(lines, "")
}

// seeds returns the bodies of testdata/text.
func seeds(tb testing.TB) [][]byte {
	tb.Helper()
	paths, err := filepath.Glob("testdata/text/*.txt")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("finding seeds: %v, %d found", err, len(paths))
	}
	var bodies [][]byte
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			tb.Fatalf("reading a seed: %v", err)
		}
		bodies = append(bodies, body)
	}
	return bodies
}
