package exposition_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

func TestCut(t *testing.T) {
	const body = `# a comment
# HELP h What h is.
# TYPE h histogram
h_bucket{le="1"} 1
m 1
 h_sum 2 # no comment
`
	tests := []struct {
		name, body, keep, want string
	}{
		{"lines of a histogram", "# c\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nm 1\n  h_sum 2\n\nh_count 1\n", "h", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n  h_sum 2\nh_count 1\n"},
		{"what is left of it", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nm 1\nh_sum 2\n# HELP m M.\n", "m", "m 1\n# HELP m M.\n"},
		{"a family that looks like a part", "h_sum 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum{a=\"b\"} 2\n", "h_sum", "h_sum 1\nh_sum{a=\"b\"} 2\n"},
		{"spelling stays", "m{ a = \"x\", } 1e0 \t5\n{\"a.b\", c=\"d\"} 1.50\n", "m,a.b", "m{ a = \"x\", } 1e0 \t5\n{\"a.b\", c=\"d\"} 1.50\n"},
		{"many lines of one metric", "# TYPE s summary\ns{quantile=\"0.1\"} 1\ns{quantile=\"0.2\"} 2\nm 1\ns{quantile=\"0.3\"} 3\nm 2\n", "s", "# TYPE s summary\ns{quantile=\"0.1\"} 1\ns{quantile=\"0.2\"} 2\ns{quantile=\"0.3\"} 3\n"},
		{"blanks at the end", "m 1\n  ", "m", "m 1\n"},
		{"nothing", "m 1\n", "n", ""},
		{"malformed", body, "m", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keep := func(name []byte) bool { return slices.Contains(strings.Split(tt.keep, ","), string(name)) }
			got, err := new(exposition.Parser).Cut(exposition.Text004, []byte(tt.body), keep)
			if tt.name == "malformed" {
				const want = `text format parsing error in line 6: expected integer as timestamp, got "#"`
				if err == nil || err.Error() != want {
					t.Errorf("Cut returned the error %v, want %s", err, want)
				}
				return
			}
			if err != nil || string(got) != tt.want {
				t.Errorf("Cut = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

// TestCutKeepsWhatProtobufSays: native histograms, exemplars and created timestamps are there afterwards, and of several
// families with one name the last still counts, although it has no metrics.
func TestCutKeepsWhatProtobufSays(t *testing.T) {
	for _, f := range richFamilies() {
		body := protobufOf(t, append(richFamilies(), family("anything", dto.MetricType_GAUGE))...)
		checkCut(t, exposition.ProtobufDelimited, body, func(name []byte) bool { return string(name) == f.GetName() })
	}
	_, err := new(exposition.Parser).Cut(exposition.ProtobufDelimited, []byte("\x05x"), func([]byte) bool { return true })
	if err == nil || err.Error() != "unexpected EOF" {
		t.Errorf("Cut of half a body returned the error %v", err)
	}
}

func TestCutOfRandomBodies(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		body, format := []byte(randomText(rng)), exposition.Text004
		if rng.IntN(4) == 0 {
			var families []*dto.MetricFamily
			for range rng.IntN(5) {
				families = append(families, randomFamily(rng, fmt.Sprintf("m%d", rng.IntN(4))))
			}
			body, format = protobufOf(t, families...), exposition.ProtobufDelimited
		}
		checkCut(t, format, body, keepSome(rng.Uint64()))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzCutText(f *testing.F) {
	for i, body := range seeds(f) {
		f.Add(body, uint64(i))
	}
	f.Fuzz(func(t *testing.T, body []byte, keep uint64) { checkCut(t, exposition.Text004, body, keepSome(keep)) })
}

func FuzzCutProtobuf(f *testing.F) {
	rich := richFamilies()
	for i, family := range rich {
		f.Add(marshal(f, family), marshal(f, rich[(i+1)%len(rich)]), uint64(i))
		f.Add(marshal(f, family), marshal(f, family), uint64(i))
	}
	f.Fuzz(func(t *testing.T, first, second []byte, keep uint64) {
		body := append(binary.AppendUvarint(nil, uint64(len(first))), first...)
		body = append(binary.AppendUvarint(body, uint64(len(second))), second...)
		checkCut(t, exposition.ProtobufDelimited, body, keepSome(keep))
	})
}

// keepSome keeps names by the bits of a number.
func keepSome(bits uint64) func([]byte) bool {
	return func(name []byte) bool {
		sum := 0
		for _, b := range name {
			sum += int(b)
		}
		return bits>>(sum%64)&1 == 1
	}
}

// checkCut cuts a body that can be parsed and compares what is left, and what was there before.
func checkCut(t *testing.T, format exposition.Format, body []byte, keep func([]byte) bool) {
	t.Helper()
	parse := func(body []byte) (*exposition.Body, error) {
		parser := new(exposition.Parser)
		if format == exposition.ProtobufDelimited {
			return parser.ParseProtobuf(body, exposition.Options{Names: metric.UTF8Names})
		}
		return parser.ParseText(body, exposition.Options{Names: metric.UTF8Names})
	}
	before, err := parse(body)
	if err != nil {
		return
	}
	cut, err := new(exposition.Parser).Cut(format, body, keep)
	if err != nil || len(cut) > len(body) {
		t.Fatalf("Cut(%q) = %q, %v", body, cut, err)
	}
	after, err := parse(cut)
	if err != nil {
		t.Fatalf("Cut(%q) = %q, which is malformed: %v", body, cut, err)
	}
	want := spell(before, keep)
	got := spell(after, func([]byte) bool { return true })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Cut(%q) = %q (-want +got):\n%s", body, cut, diff)
	}
}

// spell writes down all that a body says of the families for which keep is true.
func spell(b *exposition.Body, keep func([]byte) bool) []string {
	var lines []string
	for _, f := range b.Families {
		if !keep(f.Name) {
			continue
		}
		lines = append(lines, fmt.Sprintf("%q type %d help %v %q unit %q", f.Name, f.Type, f.HasHelp, f.Help, f.Unit))
		for _, m := range b.Metrics[f.Metrics.Start:f.Metrics.End] {
			line := fmt.Sprintf("%q", b.Labels[m.Labels.Start:m.Labels.End])
			for _, p := range b.Points[m.Points.Start:m.Points.End] {
				line += fmt.Sprintf(" %v:%v:%s", p.Bound, p.Value, p.Token)
			}
			if m.Extra != nil {
				line += fmt.Sprintf(" extra %x %v", m.Extra.Wire, m.Extra.Native)
			}
			lines = append(lines, fmt.Sprintf("%s timestamp %v created %d", line, m.HasTimestamp, m.Created))
		}
	}
	return lines
}
