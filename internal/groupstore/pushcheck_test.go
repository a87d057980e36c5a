package groupstore_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/series"
)

// oddText makes a body of what the check looks for, spelled as text.
func (u universe) oddText() string {
	var b strings.Builder
	types := []string{"gauge", "counter", "histogram", "summary", "gaugehistogram", "untyped"}
	for range 1 + u.IntN(6) {
		if u.IntN(4) == 0 {
			fmt.Fprintf(&b, "# TYPE %s %s\n", u.pick("h", "h", "s", "h_count", "s_bucket", "relay_scrapes_total"), u.pick(types...))
		}
		name := u.pick("m", "m", "m", "h", "h_sum", "h_sum", "s_sum", "h_bucket", "s", "s_count", "s_bucket", "relay_scrapes_total", "x\x00y", series.PushTimeFamily, series.FailureTimeFamily)
		inside := []string{fmt.Sprintf("%q", name)}
		if u.IntN(12) > 0 {
			name = strings.ReplaceAll(name, "\x00", "_")
			inside = nil
		} else {
			name = ""
		}
		for _, label := range []string{"instance", "job", "k", "x", "le", "quantile", "a\x00b"} {
			if u.IntN(4) > 0 || label == "a\x00b" && u.IntN(4) > 0 {
				continue
			}
			value := u.pick("", "1", "2")
			if label == "le" || label == "quantile" {
				value = u.pick("1", "2")
			}
			inside = append(inside, string(exposition.AppendLabelName(nil, label))+fmt.Sprintf("=%q", value))
		}
		timestamp := ""
		if u.IntN(30) == 0 {
			timestamp = " 5"
		}
		fmt.Fprintf(&b, "%s{%s} %d%s\n", name, strings.Join(inside, ","), u.IntN(9), timestamp)
	}
	return strings.ReplaceAll(b.String(), `\x00`, "\x00")
}

func (u universe) oddKey(tb testing.TB) grouping.Key {
	tb.Helper()
	if u.IntN(20) == 0 {
		return key(tb, "job", "a", u.pick("le", "quantile", "a\x00b"), "1")
	}
	return u.key(tb)
}

var (
	labelsShown = regexp.MustCompile(`(?s) \{.*\} `)
	labelFaults = regexp.MustCompile(`(?s)has a label with an invalid name: .*|must not have an explicit .*`)
)

// withoutLabels takes off a reason what depends on the order of the metrics of a family: which of them is shown, if several
// are equally at fault, and which of two faults with labels comes first.
func withoutLabels(reason string) string {
	return labelFaults.ReplaceAllString(labelsShown.ReplaceAllString(reason, " "), "has a label that it cannot have")
}

// TestCheckOfBodies pushes at random into an empty store: [series.Check] refuses what the store refuses, in its words, and
// nothing else. What it cannot know is what the relay's own metrics are, so that the store has none here.
func TestCheckOfBodies(t *testing.T) {
	rounds := 8_000
	if testing.Short() {
		rounds = 3_000
	}
	seed := rand.Uint64()
	u := universe{Rand: rand.New(rand.NewPCG(seed, 0))}
	parser := new(exposition.Parser)
	taken, refused := 0, map[string]int{}
	const kinds = 6 // of refusals, to be seen at least; the rarest may need some rounds more
	for n := 0; n < rounds || len(refused) < kinds && n < 20*rounds; n++ {
		k := u.oddKey(t)
		u.wide = u.IntN(2) == 0
		var body *exposition.Body
		var err error
		text := u.oddText()
		if u.IntN(3) == 0 {
			families := u.families()
			text = fmt.Sprint(families)
			body, err = parser.ParseProtobuf(delimited(t, families), exposition.Options{Names: metric.UTF8Names})
		} else {
			body, err = parser.ParseText([]byte(text), exposition.Options{Names: metric.UTF8Names})
		}
		if err != nil {
			continue // refused before
		}
		push := pushing{Operation: change.Replace, Key: k, Body: body, At: noon}
		var added []string
		if u.IntN(2) == 0 {
			push.Agent, added = "a", []string{"k"}
		}
		got := series.Check(body, k, added)
		_, want := apply(t.Context(), groupstore.New(groupstore.Config{AccountLabel: "k"}), push)
		if want == nil && got == "" {
			taken++
			continue
		}
		if !errors.Is(want, change.Inconsistent) || got == "" {
			t.Fatalf("Check(%q, %v) = %v, the store says %v (seed %d)", text, k, got, want, seed)
		}
		const says = "pushed metrics are invalid or inconsistent with existing metrics: "
		reason, stored := got, strings.TrimPrefix(want.Error(), says)
		if reason != stored {
			t.Fatalf("Check(%q, %v) = %q, the store says %q (seed %d)", text, k, reason, stored, seed)
		}
		refused[kindOf(reason)]++
	}
	t.Logf("%d taken, refused: %v", taken, refused)
	if taken < rounds/10 || len(refused) < kinds {
		t.Errorf("the bodies are lopsided: %d taken, refused: %v", taken, refused)
	}
}

// TestCheckOfOwnFamilies pushes at random into an empty store of a relay that has metrics of its own: of what [series.Check] finds no fault in,
// [series.CheckOwn] refuses what the store refuses, in its words, and nothing else.
func TestCheckOfOwnFamilies(t *testing.T) {
	rounds := 8_000
	if testing.Short() {
		rounds = 3_000
	}
	seed := rand.Uint64()
	u := universe{Rand: rand.New(rand.NewPCG(seed, 0))}
	own := map[string]metric.Type{"m": metric.Gauge, "s": metric.Summary, "h_count": metric.Counter}
	var families []groupstore.OwnFamily
	for name, typ := range own {
		families = append(families, groupstore.OwnFamily{Name: name, Type: typ})
	}
	parser := new(exposition.Parser)
	taken, refused := 0, map[string]int{}
	const kinds = 4 // another type, and names with suffixes on either side, of which one is told with the type
	for n := 0; n < rounds || len(refused) < kinds && n < 20*rounds; n++ {
		k, text := u.oddKey(t), u.oddText()
		body, err := parser.ParseText([]byte(text), exposition.Options{Names: metric.UTF8Names})
		if err != nil || series.Check(body, k, nil) != "" {
			continue
		}
		got, want := series.CheckOwn(body, own), ""
		if _, err := apply(t.Context(), groupstore.New(groupstore.Config{OwnFamilies: families}), pushing{Operation: change.Replace, Key: k, Body: body, At: noon}); err != nil {
			want = strings.TrimPrefix(err.Error(), "pushed metrics are invalid or inconsistent with existing metrics: ")
		}
		switch {
		case got != want:
			t.Fatalf("CheckOwn(%q) = %q, the store says %q (seed %d)", text, got, want, seed)
		case got == "":
			taken++
		default:
			refused[regexp.MustCompile(`family \S+|"[^"]*"|type \w+`).ReplaceAllString(got, "")]++
		}
	}
	t.Logf("%d taken, refused: %v", taken, refused)
	if taken < rounds/100 || len(refused) < kinds {
		t.Errorf("the bodies are lopsided: %d taken, refused: %v", taken, refused)
	}
}

// kindOf takes what is in quotes, and labels, off a reason.
func kindOf(reason string) string {
	return regexp.MustCompile(`"[^"]*"|named? .*|: .*`).ReplaceAllString(withoutLabels(reason), "")
}

func delimited(tb testing.TB, families []*dto.MetricFamily) []byte {
	tb.Helper()
	var out []byte
	for _, mf := range families {
		wire, err := proto.Marshal(mf)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(binary.AppendUvarint(out, uint64(len(wire))), wire...)
	}
	return out
}
