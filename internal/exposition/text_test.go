package exposition_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// The numbers are the rows of the conformance table of the push API.
func TestParseTextErrors(t *testing.T) {
	const at1 = "text format parsing error in line 1: "
	tests := []struct{ name, body, want string }{
		{"53 UTF-8 name", "{\"my.metric\",\"lab.el\"=\"v\"} 1\n", at1 + `invalid metric name "my.metric"`},
		{"54 no line feed", "m 1", at1 + "unexpected end of input stream"},
		{"55 carriage return", "m 1\r\n", at1 + `expected float as value, got "1\r"`},
		{"56 no value", "blablabla\n", at1 + `expected float as value, got ""`},
		{"57 two TYPE lines", "# TYPE m gauge\n# TYPE m gauge\n", `text format parsing error in line 2: second TYPE line for metric name "m", or TYPE reported after samples`},
		{"57 TYPE after sample", "m 1\n# TYPE m gauge\n", `text format parsing error in line 2: second TYPE line for metric name "m", or TYPE reported after samples`},
		{"58 two HELP lines", "# HELP m a\n# HELP m b\n", `text format parsing error in line 2: second HELP line for metric name "m"`},
		{"59 unknown type", "# TYPE m info\n", at1 + `unknown metric type "info"`},
		{"60 label twice", "m{a=\"1\",a=\"2\"} 1\n", at1 + `duplicate label names for metric "m"`},
		{"60 label twice, apart", "m{a=\"1\",b=\"\",a=\"2\"} 1\n", at1 + `duplicate label names for metric "m"`},
		{"61 label value not UTF-8", "m{a=\"\xff\"} 1\n", at1 + `invalid label value "\xff"`},
		{"62 hexadecimal", "m 0x10\n", at1 + `expected float as value, got "0x10"`},
		{"underscore in number", "m 1_0\n", at1 + `expected float as value, got "1_0"`},
		{"number out of range", "m 1e400\n", at1 + `expected float as value, got "1e400"`},
		{"64 exemplar", "c_total 1 # {a=\"b\"} 1\n", at1 + `expected integer as timestamp, got "#"`},
		{"96 gzip", "\x1f\x8b\x08\x00\n", at1 + "invalid metric name"},
		{"blank at the end", "m 1 \n", at1 + `expected integer as timestamp, got ""`},
		{"word after timestamp", "m 1 2 3\n", at1 + `spurious string after timestamp: " 3"`},
		{"reserved label", "m{__name__=\"a\"} 1\n", at1 + `label name "__name__" is reserved`},
		{"no label name", "m{=\"a\"} 1\n", at1 + `invalid label name for metric "m"`},
		{"no equals sign", "m{a} 1\n", at1 + `expected '=' after label name, found '}'`},
		{"no quote", "m{a=b} 1\n", at1 + `expected '"' at start of label value, found 'b'`},
		{"no comma", "m{a=\"b\"c=\"d\"} 1\n", at1 + `unexpected end of label value "b"`},
		{"line feed in label value", "m{a=\"b\n", at1 + `label value "b" contains unescaped new-line`},
		{"escape in label value", "m{a=\"b\\t\"} 1\n", at1 + `invalid escape sequence '\t'`},
		{"escape in HELP", "# HELP m \\t\n", at1 + `invalid escape sequence '\t'`},
		{"name in comment", "# HELP 5 a\n", at1 + "invalid metric name in comment"},
		{"le", "# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", `text format parsing error in line 2: expected float as value for 'le' label, got "x"`},
		{"quantile", "# TYPE s summary\ns{quantile=\"x\"} 1\n", `text format parsing error in line 2: expected float as value for 'quantile' label, got "x"`},
		{"negative bucket", "# TYPE h histogram\nh_bucket{le=\"1\"} -1\n", `text format parsing error in line 2: negative bucket population for histogram "h"`},
		{"negative bucket, likewise", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} -1\n", `text format parsing error in line 3: negative bucket population for histogram "h"`},
		{"negative count", "# TYPE h histogram\nh_count -1\n", `text format parsing error in line 2: negative count for histogram "h"`},
		{"negative count of a summary", "# TYPE s summary\ns_count -1\n", `text format parsing error in line 2: invalid count for summary "s"`},
		{"two le", "# TYPE h histogram\nh_bucket{le=\"1\",le=\"2\"} 1\n", `text format parsing error in line 2: duplicate label names for metric "h"`},
		{"name missing where the line before had it behind le", "# TYPE h histogram\n{le=\"1\",\"h_bucket\"} 1\n{le=\"2\"} 1\n", "text format parsing error in line 3: invalid metric name"},
		{"malformed goes before inconsistent", "m{__x=\"1\"} 1\nm\n", `text format parsing error in line 2: expected float as value, got ""`},
	}
	parser := new(exposition.Parser)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, err := parser.ParseText([]byte(tt.body), exposition.Options{})
			var parse *exposition.ParseError
			if !errors.As(err, &parse) || err.Error() != tt.want {
				t.Errorf("ParseText(%q) returned the error %v, want %s", tt.body, err, tt.want)
			}
			if body != nil {
				t.Errorf("ParseText(%q) returned a body beside an error", tt.body)
			}
		})
	}
}

func TestParseTextInconsistent(t *testing.T) {
	const twice = " was collected before with the same name and label values"
	tests := []struct{ name, body, want string }{
		{"86 reserved label", "m{__x=\"1\"} 1\n", `collected metric "m" {__x="1"} has a label with an invalid name: __x`},
		{"bucket twice", "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"1.0\"} 1\n", `collected metric "h_bucket" {a="b",le="1"}` + twice},
		{"zero twice", "# TYPE h histogram\nh_bucket{le=\"0\"} 1\nh_bucket{le=\"-0\"} 1\n", `collected metric "h_bucket" {le="0"}` + twice},
		{"bucket twice, apart", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"1\"} 1\n", `collected metric "h_bucket" {le="1"}` + twice},
		{"sum twice", "# TYPE h histogram\nh_sum 1\nh_sum 1\n", `collected metric "h_sum" {}` + twice},
		{"count twice", "# TYPE h gaugehistogram\nh_count 1\nh_count 1\n", `collected metric "h_count" {}` + twice},
		{"quantile twice", "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"5e-1\"} 1\n", `collected metric "s" {quantile="0.5"}` + twice},
		{"sum of a summary twice", "# TYPE s summary\ns_sum{b=\"Π\",a=\"\\n\"} 1\ns_sum{a=\"\\n\",b=\"Π\"} 1\n", `collected metric "s_sum" {a="\n",b="Π"}` + twice},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := new(exposition.Parser).ParseText([]byte(tt.body), exposition.Options{})
			var inconsistent *exposition.InconsistentError
			if !errors.As(err, &inconsistent) || err.Error() != tt.want {
				t.Errorf("ParseText(%q) returned the error %v, want %s", tt.body, err, tt.want)
			}
		})
	}
}

func TestParseTextBody(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"8 nothing but comments", "# a\n\n# TYPE m gauge\n# HELP n x\n", ""},
		{"empty", "", ""},
		{"blanks without a line feed", "m 1\n  \t", "# TYPE m untyped\nm 1\n"},
		{"63 not finite", "m NaN\nn +Inf\no -Inf\np inf\n", "# TYPE m untyped\nm NaN\n# TYPE n untyped\nn +Inf\n# TYPE o untyped\no -Inf\n# TYPE p untyped\np +Inf\n"},
		{"65 OpenMetrics", "m_total 1\n# EOF\n", "# TYPE m_total untyped\nm_total 1\n"},
		{"67 timestamp", "m 1 1000\n", "# TYPE m untyped\nm 1 @\n"},
		{"75 series twice is not judged here", "m 1\nm 2\n", "# TYPE m untyped\nm 1\nm 2\n"},
		{"89 no +Inf bucket", "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_count 3\n", "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 0\nh_count 3\n"},
		{
			"histogram lines in any order",
			"# TYPE h histogram\nh_sum{a=\"1\"} 5\nh_bucket{le=\"+Inf\",a=\"1\"} 3\nm 1\nh_bucket{a=\"2\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"0.5\"} 2\nh_bucket{a=\"1\",le=\"-1\"} 1\n",
			"# TYPE h histogram\nh_bucket{a=\"1\",le=\"-1\"} 1\nh_bucket{a=\"1\",le=\"0.5\"} 2\nh_bucket{a=\"1\",le=\"+Inf\"} 3\nh_sum{a=\"1\"} 5\nh_count{a=\"1\"} 0\n" +
				"h_bucket{a=\"2\",le=\"1\"} 1\nh_bucket{a=\"2\",le=\"+Inf\"} 0\nh_sum{a=\"2\"} 0\nh_count{a=\"2\"} 0\n# TYPE m untyped\nm 1\n",
		},
		{"families in turns", "a 1\nb 1\na{x=\"1\"} 2\nb{x=\"1\"} 2\na{x=\"2\"} 3\n", "# TYPE a untyped\na 1\na{x=\"1\"} 2\na{x=\"2\"} 3\n# TYPE b untyped\nb 1\nb{x=\"1\"} 2\n"},
		{"labels sorted", "m{c=\"3\", a = \"1\" ,b=\"\",} 1\n", "# TYPE m untyped\nm{a=\"1\",b=\"\",c=\"3\"} 1\n"},
		{"le of another type is a label", "m{le=\"1\",quantile=\"x\"} 1\n", "# TYPE m untyped\nm{le=\"1\",quantile=\"x\"} 1\n"},
		{"HELP escapes and repair", "# HELP m a\\n\\\\\\\"\xff\n# TYPE m Gauge\nm 1\n", "# HELP m a\\n\\\\\"\uFFFD\n# TYPE m gauge\nm 1\n"},
		{"whole count of a summary", "# TYPE s summary\ns_count 2.9\n", "# TYPE s summary\ns_sum 0\ns_count 2\n"},
		{"name inside the braces", "# TYPE h histogram\nm 1\n{le=\"1\",\"h_bucket\",a=\"x\"} 1\n", "# TYPE h histogram\nh_bucket{a=\"x\",le=\"1\"} 1\nh_bucket{a=\"x\",le=\"+Inf\"} 0\nh_sum{a=\"x\"} 0\nh_count{a=\"x\"} 0\n# TYPE m untyped\nm 1\n"},
		{"lines that begin alike", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\",a=\"1\"} 2\nh_bucket{le=\"3\"}4\n", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"3\"} 4\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\nh_bucket{a=\"1\",le=\"2\"} 2\nh_bucket{a=\"1\",le=\"+Inf\"} 0\nh_sum{a=\"1\"} 0\nh_count{a=\"1\"} 0\n"},
		{
			"lines that begin alike, with another family between them",
			"# TYPE g histogram\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\ng_count 5\nh_bucket{le=\"2\"} 2\ng_sum 6\nh_bucket{le=\"3\"} 3\n",
			"# TYPE g histogram\ng_bucket{le=\"+Inf\"} 5\ng_sum 6\ng_count 5\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"3\"} 3\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n",
		},
		{"repeated numbers", "m 1.0\nm 1e9\nm 1000000\nm 0.00001\nm 100000\nm -0\nm 0.30000000000000004\n", "# TYPE m untyped\nm 1\nm 1e+09\nm 1e+06\nm 1e-05\nm 100000\nm 0\nm 0.30000000000000004\n"},
	}
	parser := new(exposition.Parser) // The same for all: nothing may stay of the body before.
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, err := parser.ParseText([]byte(tt.body), exposition.Options{})
			if err != nil {
				t.Fatalf("ParseText(%q) returned the error %q", tt.body, err)
			}
			if diff := cmp.Diff(tt.want, render(t, body)); diff != "" {
				t.Errorf("ParseText(%q) differs (-want +got):\n%s", tt.body, diff)
			}
		})
	}
}

// TestParseTextExactly looks at a body itself, for what render does not show.
func TestParseTextExactly(t *testing.T) {
	const text = "# HELP h help\n# TYPE h histogram\nh_bucket{a=\"x\",le=\"1\"} 1e0\n# TYPE unused gauge\nh_count{a=\"x\"} 2 123\nm{} 0.5\n"
	got, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{})
	if err != nil {
		t.Fatalf("ParseText returned the error %q", err)
	}
	want := &exposition.Body{
		Families: []exposition.Family{
			{Name: []byte("h"), Help: []byte("help"), HasHelp: true, Type: metric.Histogram, Metrics: exposition.Range{Start: 0, End: 1}},
			{Name: []byte("m"), Type: metric.Untyped, Metrics: exposition.Range{Start: 1, End: 2}},
		},
		Metrics: []exposition.Metric{
			{Labels: exposition.Range{Start: 0, End: 1}, Points: exposition.Range{Start: 1, End: 5}, HasTimestamp: true},
			{Labels: exposition.Range{Start: 1, End: 1}, Points: exposition.Range{Start: 0, End: 1}},
		},
		Labels: []exposition.Label{{Name: []byte("a"), Value: []byte("x")}},
		Points: []exposition.Point{
			{Value: 0.5, Token: []byte("0.5")},
			{Bound: 1, Value: 1, Token: []byte("1")},
			{Bound: math.Inf(1), Value: 2, Token: []byte("2")},
			{Value: 0, Token: []byte("0")},
			{Value: 2, Token: []byte("2")},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("ParseText differs (-want +got):\n%s", diff)
	}
}

func TestLimits(t *testing.T) {
	long := strings.Repeat("x", 11)
	limits := exposition.Limits{MaxSeries: 3, MaxLabels: 2, MaxLabelLength: 10}
	tests := []struct{ name, body, want string }{
		{"as many series as allowed", "m 1\nm 2\nm 3\n", ""},
		{"one series more", "m 1\nm 2\nm 3\nm 4\n", "push has more than 3 series (--push.max-series)"},
		{"series that are added", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\n", "push has more than 3 series (--push.max-series)"},
		{"dropped lines count", "# TYPE s summary\ns 1\ns 1\ns 1\ns 1\n", "push has more than 3 series (--push.max-series)"},
		{"families without series", "# TYPE a gauge\n# TYPE b gauge\n# TYPE c gauge\n# TYPE d gauge\n", "push has more than 3 series (--push.max-series)"},
		{"as many labels as allowed", "m{a=\"\",b=\"\"} 1\n", ""},
		{"one label more", "m{a=\"\",b=\"\",c=\"\"} 1\n", `metric "m" has more than 2 labels (--push.max-labels)`},
		{"le does not count", "# TYPE h histogram\nh_bucket{a=\"\",b=\"\",le=\"+Inf\"} 1\n", ""},
		{"le counts elsewhere", "m{a=\"\",b=\"\",le=\"+Inf\"} 1\n", `metric "m" has more than 2 labels (--push.max-labels)`},
		{"long value", "m{a=\"" + long + "\"} 1\n", `metric "m" has a name or a label that is longer than 10 bytes (--push.max-label-length)`},
		{"long label name", "m{" + long + "=\"\"} 1\n", `metric "m" has a name or a label that is longer than 10 bytes (--push.max-label-length)`},
		{"long metric name", long + " 1\n", `metric "xxxxxxxxxx…" has a name or a label that is longer than 10 bytes (--push.max-label-length)`},
		{"as long as allowed", long[1:] + "{" + long[1:] + "=\"" + long[1:] + "\"} 1\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := new(exposition.Parser).ParseText([]byte(tt.body), exposition.Options{Limits: limits})
			checkLimit(t, err, tt.want)
			if _, err := new(exposition.Parser).ParseText([]byte(tt.body), exposition.Options{}); err != nil {
				t.Errorf("without limits the error is %v", err)
			}
			if families, err := parseReference([]byte(tt.body), metric.LegacyNames); err == nil && len(families) > 0 {
				var protobuf []byte
				for _, f := range families {
					protobuf = append(protobuf, protobufOf(t, f)...)
				}
				_, err = new(exposition.Parser).ParseProtobuf(protobuf, exposition.Options{Limits: limits})
				if !strings.Contains(tt.name, "dropped") {
					checkLimit(t, err, tt.want)
				}
			}
		})
	}
}

func checkLimit(t *testing.T, err error, want string) {
	t.Helper()
	var limit *exposition.LimitError
	if want == "" && err == nil || errors.As(err, &limit) && err.Error() == want {
		return
	}
	t.Errorf("error is %v, want %q", err, want)
}

// A parser must not show the body before in anything, and must not hold on to it once it was reset.
func TestParserIsUsedAgain(t *testing.T) {
	p := new(exposition.Parser)
	for i := range 3 {
		for _, n := range []int{1000, 10, 1} {
			families := sampleFamilies(n)
			got, err := p.ParseText(textOf(t, families), exposition.Options{})
			if err != nil {
				t.Fatalf("round %d: ParseText returned the error %q", i, err)
			}
			want := textOf(t, families)
			parsed, err := parseReference(want, metric.LegacyNames)
			if err != nil {
				t.Fatalf("reading the reference: %v", err)
			}
			if diff := cmp.Diff(renderReference(t, parsed), render(t, got)); diff != "" {
				t.Fatalf("round %d, %d series (-want +got):\n%s", i, n, diff)
			}
			if _, err := p.ParseText([]byte("m{\n"), exposition.Options{}); err == nil {
				t.Fatal("a malformed body was accepted")
			}
		}
		p.Reset()
	}
}

func TestParsingAllocatesNothing(t *testing.T) {
	families := sampleFamilies(100)
	text, protobuf := textOf(t, families), protobufOf(t, families...)
	p := new(exposition.Parser)
	for name, parse := range map[string]func() error{
		"text":     func() error { _, err := p.ParseText(text, exposition.Options{}); return err },
		"protobuf": func() error { _, err := p.ParseProtobuf(protobuf, exposition.Options{}); return err },
	} {
		if allocs := testing.AllocsPerRun(100, func() {
			if err := parse(); err != nil {
				t.Fatal(err)
			}
		}); allocs != 0 {
			t.Errorf("parsing %s allocates %v times", name, allocs)
		}
	}
}

// Many families and many label sets must be told apart in linear time, whatever their names.
func TestManyFamiliesAndHistograms(t *testing.T) {
	var b strings.Builder
	const n = 5_000
	for i := range n {
		fmt.Fprintf(&b, "# TYPE h%d histogram\nh%d_bucket{a=\"%d\",le=\"1\"} 1\n", i, i, i)
	}
	for i := range n {
		fmt.Fprintf(&b, "h%d_count{a=\"%d\"} %d\n", i, i, i)
		fmt.Fprintf(&b, "h0_count{a=\"-%d\"} %d\n", i, i)
	}
	got, err := new(exposition.Parser).ParseText([]byte(b.String()), exposition.Options{})
	if err != nil {
		t.Fatalf("ParseText returned the error %q", err)
	}
	if len(got.Families) != n || len(got.Metrics) != 2*n {
		t.Errorf("%d families and %d metrics, want %d and %d", len(got.Families), len(got.Metrics), n, 2*n)
	}
	last := got.Metrics[got.Families[n-1].Metrics.Start]
	if count := got.Points[last.Points.End-1].Value; count != n-1 {
		t.Errorf("the count of the last family is %v, want %d", count, n-1)
	}
}
