package exposition_test

import (
	"regexp"
	"strings"
	"testing"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// reasons are all that is said of lines that cannot be parsed. What is not among them may be from the text.
var reasons = []string{
	`unexpected end of input stream`,
	`invalid metric name`, `invalid metric name …`, `invalid metric name in comment`, `multiple metric names for metric …`, `unexpected end of metric name …`,
	`second HELP line for metric name …`, `second TYPE line for metric name …, or TYPE reported after samples`, `unknown metric type …`,
	`invalid label name …`, `invalid label name for metric …`, `duplicate label names for metric …`, `label name "__name__" is reserved`,
	`expected '=' after label name, found …`, `expected '"' at start of label value, found …`,
	`invalid label value …`, `unexpected end of label value …`, `metric name … contains unescaped new-line`, `label name … contains unescaped new-line`, `label value … contains unescaped new-line`,
	`invalid escape sequence …`,
	`expected float as value, got …`, `expected float as value for 'le' label, got …`, `expected float as value for 'quantile' label, got …`,
	`expected integer as timestamp, got …`, `spurious string after timestamp: …`,
	`negative bucket population for histogram …`, `negative count for histogram …`, `invalid count for summary …`,
}

// described is the form of what is said, with the reason as its group; empty where a limit was passed.
var described = regexp.MustCompile(`^(?s:` +
	`line [0-9]+ is not in the text format: (.+?)(?:; the file (?:is|has|begins) [-A-Za-z0-9 .,:()/+=;"{}]*)?` +
	`|metric … has more than [0-9]+ labels \(--push.max-labels\)|metric … has a name or a label that is longer than [0-9]+ bytes \(--push.max-label-length\)|push has more than [0-9]+ series \(--push.max-series\))$`)

// describe parses a text and returns what is said of it as a file; empty if it is well formed.
func describe(text string, names metric.NameScheme) string {
	_, err := new(exposition.Parser).ParseText([]byte(text), exposition.Options{Names: names, Limits: exposition.Limits{MaxSeries: 50, MaxLabels: 3, MaxLabelLength: 64}})
	if _, wellFormed := err.(*exposition.InconsistentError); err == nil || wellFormed { //nolint:errorlint // The parser wraps none.
		return ""
	}
	return exposition.Describe(err, []byte(text))
}

// saysNothing fails the test if what is said of a text may hold something of it.
func saysNothing(tb testing.TB, text, said string) {
	tb.Helper()
	found := described.FindStringSubmatch(said)
	if found == nil {
		tb.Fatalf("of %q is said %q", text, said)
	}
	for _, reason := range reasons {
		if found[1] == reason || found[1] == "" {
			return
		}
	}
	tb.Fatalf("of %q is given the reason %q", text, found[1])
}

// TestDescribe: what is said of a file that cannot be parsed has nothing of the file.
func TestDescribe(t *testing.T) {
	const secret = "hunter2"
	long := strings.Repeat(secret, 10)
	for _, tt := range []struct{ text, want string }{
		{"hunter2", "line 1 is not in the text format: unexpected end of input stream; the file has no line feed: end each line with a line feed"},
		{"password: hunter2\n", "line 1 is not in the text format: expected float as value, got …"},
		{"m 1\nroot:$6$hunter2$hunter2:19000:0:99999:7:::\n", "line 2 is not in the text format: expected float as value, got …"},
		{"m 1 hunter2\n", "line 1 is not in the text format: expected integer as timestamp, got …"},
		{"m 1 2 hunter2\n", "line 1 is not in the text format: spurious string after timestamp: …"},
		{"m{hunter2} 1\n", "line 1 is not in the text format: expected '=' after label name, found …"},
		{"m{a=hunter2} 1\n", `line 1 is not in the text format: expected '"' at start of label value, found …`},
		{"m{a=\"hunter2\"hunter2} 1\n", "line 1 is not in the text format: unexpected end of label value …"},
		{"m{a=\"hunter2\n", "line 1 is not in the text format: label value … contains unescaped new-line"},
		{"m{a=\"\xffhunter2\"} 1\n", "line 1 is not in the text format: invalid label value …"},
		{"hunter2{a=\"b\",a=\"c\"} 1\n", "line 1 is not in the text format: duplicate label names for metric …"},
		{"hunter2{\"x\"} 1\n", "line 1 is not in the text format: expected '=' after label name, found …"},
		{"{\"hunter2\" 1\n", "line 1 is not in the text format: unexpected end of metric name …"},
		{"{\"a\",\"hunter2\"} 1\n", "line 1 is not in the text format: multiple metric names for metric …"},
		{"{\"a\",\"hunter2 2\"=\"b\"} 1\n", "line 1 is not in the text format: invalid label name …"},
		{"m{__name__=\"hunter2\"} 1\n", `line 1 is not in the text format: label name "__name__" is reserved`},
		{"# TYPE hunter2 hunter2\n", "line 1 is not in the text format: unknown metric type …"},
		{"# HELP hunter2 a\n# HELP hunter2 b\n", "line 2 is not in the text format: second HELP line for metric name …"},
		{"# TYPE hunter2 gauge\n# TYPE hunter2 gauge\n", "line 2 is not in the text format: second TYPE line for metric name …, or TYPE reported after samples"},
		{"# TYPE hunter2 histogram\nhunter2_bucket{le=\"hunter2\"} 1\n", "line 2 is not in the text format: expected float as value for 'le' label, got …"},
		{"# TYPE hunter2 histogram\nhunter2_count -1\n", "line 2 is not in the text format: negative count for histogram …"},
		{"# HELP m \\'hunter2\n", "line 1 is not in the text format: invalid escape sequence …"},
		{"# HELP m \\\"\\hunter2\n", "line 1 is not in the text format: invalid escape sequence …"},
		{"hunter2{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\"} 1\n", "metric … has more than 3 labels (--push.max-labels)"},
		{long + " 1\n", "metric … has a name or a label that is longer than 64 bytes (--push.max-label-length)"},
		{"-----BEGIN PRIVATE KEY-----\nhunter2\n", "line 1 is not in the text format: invalid metric name; the file is PEM, such as keys and certificates are in"},
		{`{"password":"hunter2"}`, "line 1 is not in the text format: unexpected end of metric name …; the file is JSON: write the text format, a line such as NAME{LABEL=\"VALUE\"} 1 for each sample"},
		{inUTF16("\uFEFFhunter2", true), "line 1 is not in the text format: invalid metric name; the file is UTF-16, as PowerShell writes it: write it as UTF-8 (in PowerShell: Out-File -Encoding utf8)"},
		{gzipped(t, "m 1\n"), "line 1 is not in the text format: invalid metric name; the file is a gzip stream: decompress it"},
		{"\x7fELF\x02\x01hunter2\n", "line 1 is not in the text format: invalid metric name; the file is no text, but application/octet-stream"},
		{"%PDF-hunter2\n", "line 1 is not in the text format: invalid metric name; the file is no text, but application/pdf"},
	} {
		said := describe(tt.text, metric.LegacyNames)
		if strings.Contains(said, "hunter") {
			t.Errorf("of %q is said %q", tt.text, said)
		}
		if said != tt.want {
			t.Errorf("of %q is said\n%q, want\n%q", tt.text, said, tt.want)
		}
		saysNothing(t, tt.text, said)
	}
}

// FuzzDescribe: whatever is in a file, only what is known beforehand is said of it.
func FuzzDescribe(f *testing.F) {
	for _, text := range []string{
		"'\"' 1\n", "m{a=\"\\\"'\"x} 1\n", "# TYPE ' \"=\"\n", "m '='\n", "{\"\\\"'le'\"=\"\xff\"} 1\n", "m{a=\"\\'\"} 1\n", "m 1 \"\n", "m 1 1 '\n", "\uFEFFm 1\n", "m 1\r\n", "a%0A",
		"# TYPE h histogram\nh_bucket{le=\"'\"} 1\n", "# TYPE m info\n", "m 1 # {a=\"b\"} 1\n", "h{a=\"", "# HELP m \\", "<a>", "[1]", "\x00m\x00 ",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, names := range []metric.NameScheme{metric.LegacyNames, metric.UTF8Names} {
			if said := describe(text, names); said != "" {
				saysNothing(t, text, said)
			}
		}
	})
}
