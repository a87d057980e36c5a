package exposition_test

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
)

// lineParts are what random bodies are made of: each list is a position in a line, and empty strings are left out.
var lineParts = struct{ comment, name, brace, label, equals, value, comma, end, number, timestamp, line []string }{
	comment:   []string{"# TYPE ", "# HELP ", "#TYPE\t", "# HELP", "# ", "#", "# EOF", "  # TYPE  "},
	name:      []string{"m", "h", "s", "g", "h_sum", "h_count", "h_bucket", "s_sum", "s_count", "g_count", "g_bucket", `"m"`, `"a.b"`, `h"_sum"`, "a:b", "5", "", `""`, `"m\x"`},
	brace:     []string{"{", "{", "{", " {", "{ ", "", "{,"},
	label:     []string{"a", "b", "c", "le", "quantile", "le", "quantile", "__name__", "__x", `"a"`, `"b.c"`, "a:b", "", "5"},
	equals:    []string{"=", "=", "=", "=", " = ", "", "=="},
	value:     []string{`"x"`, `"y"`, `""`, `"1"`, `"0.5"`, `"+Inf"`, `"1e0"`, `"Inf"`, `"NaN"`, `"-0"`, `"0"`, `"\\\"\n"`, `"Π"`, "\"\xff\"", `"\x"`, "x", `"`},
	comma:     []string{",", ",", ",", " , ", "", ",,"},
	end:       []string{"}", "} ", "}", " }\t", "", "}}"},
	number:    []string{"0", "1", "-1", "-0", "1.50", "2.5", "1e5", "1e+06", "1234567", "0.1", "0.00001", "NaN", "nan", "+Inf", "-inf", "0x1p3", "1_0", "1e999", "123456789012345678", "0.30000000000000004", ".5", "5.", "", "x", "1e22", "1e23", "-2.5e-07"},
	timestamp: []string{"", "", "", "", "", "", " ", " 1", "\t-5", " 1.5", " 1 ", " x", " 99999999999999999999"},
	line:      []string{"\n", "\n", "\n", "\n", "\n", "\n", "\n", "\n", "\n\n", "\r\n", "", " \n"},
}

var typeWords = []string{"counter", "gauge", "histogram", "summary", "untyped", "GaugeHistogram", "gauge_histogram", "info", "", `hist\ogram`, "gauge "}

// TestRandomTextIsTakenAsTheReferenceTakesIt is FuzzParseText with bodies that are nearly well formed.
func TestRandomTextIsTakenAsTheReferenceTakesIt(t *testing.T) {
	rounds := 20_000
	if testing.Short() {
		rounds = 4_000
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	parser := new(exposition.Parser)
	for range rounds {
		body := randomText(rng)
		names := metric.NameScheme(rng.IntN(2))
		compareText(t, parser, []byte(body), names)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomText(rng *rand.Rand) string {
	var b strings.Builder
	// Most bodies hold one odd spelling at most, so that the rest of them matters.
	odd := rng.IntN(4) == 0
	pick := func(from []string) {
		if !odd {
			from = from[:max(1, len(from)/3)]
		}
		b.WriteString(from[rng.IntN(len(from))])
	}
	for _, name := range []string{"h", "s", "g"} {
		if rng.IntN(3) > 0 {
			b.WriteString("# TYPE " + name + " " + map[string]string{"h": "histogram", "s": "summary", "g": "gaugehistogram"}[name] + "\n")
		}
	}
	for range 1 + rng.IntN(8) {
		p := &lineParts
		if rng.IntN(6) == 0 {
			b.WriteString(p.comment[rng.IntN(2)])
			pick(p.name)
			b.WriteString(" ")
			b.WriteString(typeWords[rng.IntN(len(typeWords))])
			pick(p.line)
			continue
		}
		if rng.IntN(4) == 0 {
			// Lines of one metric: they begin alike, and the scanner makes use of it.
			series := p.name[1+rng.IntN(10)] + "{a=" + p.value[rng.IntN(3)] + "," + p.label[3+rng.IntN(4)] + `="`
			for range 1 + rng.IntN(4) {
				b.WriteString(series)
				pick([]string{`1"}`, `0.5"}`, `+Inf"}`, `NaN"}`, `2" }`, `3",}`, `4",b="x"}`, `\n"}`, `x"}`, `5"`, ``, `Π"}`})
				b.WriteString(" " + p.number[rng.IntN(11)])
				pick(p.timestamp)
				pick(p.line)
			}
			continue
		}
		b.WriteString(p.name[rng.IntN(11)])
		if rng.IntN(4) > 0 {
			pick(p.brace)
			for i := range rng.IntN(4) {
				if i > 0 {
					pick(p.comma)
				}
				b.WriteString(p.label[rng.IntN(5)])
				pick(p.equals)
				b.WriteString(p.value[rng.IntN(11)])
			}
			pick(p.end)
		}
		b.WriteString(" ")
		b.WriteString(p.number[rng.IntN(11)])
		pick(p.timestamp)
		pick(p.line)
	}
	return b.String()
}

// TestRandomNumbersAreTakenAsTheReferenceTakesThem spells numbers in all ways, so that the tokens that are kept as they are
// spelled are just those that would be rendered so.
func TestRandomNumbersAreTakenAsTheReferenceTakesThem(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	digits := func(most int) string {
		b := make([]byte, rng.IntN(most+1))
		for i := range b {
			b[i] = "0000123456789"[rng.IntN(13)]
		}
		return string(b)
	}
	parser := new(exposition.Parser)
	for range 20_000 {
		number := []string{"", "", "-", "+"}[rng.IntN(4)] + digits(9) + digits(9)
		if rng.IntN(2) == 0 {
			number += "." + digits(9) + digits(9)
		}
		if rng.IntN(2) == 0 {
			number += []string{"e", "e+", "e-", "E", "e+0", "e-0", "e+1"}[rng.IntN(7)] + digits(2)
		}
		if rng.IntN(4) == 0 {
			number = strconv.FormatFloat(math.Float64frombits(rng.Uint64()), "gef"[rng.IntN(3)], rng.IntN(20)-1, 64)
		}
		compareText(t, parser, []byte("m "+number+"\n# TYPE h histogram\nh_bucket{le=\""+number+"\"} 1\n"), metric.LegacyNames)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
