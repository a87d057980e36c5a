package exposition_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/exposition"
)

// sampleFamilies returns families of n exposition lines: of each hundred, 30 are gauges and 31 counters in families of up
// to four, the rest makes 3 histograms of 13 lines. Each series has three labels. The values are as they come: whole
// numbers, decimals, large numbers and some with all their digits.
func sampleFamilies(n int) []*dto.MetricFamily {
	labels := func(i int) []*dto.LabelPair {
		return []*dto.LabelPair{
			{Name: new("code"), Value: new(strconv.Itoa(200 + i%4))},
			{Name: new("handler"), Value: new("/api/v1/query_range")},
			{Name: new("method"), Value: new("get")},
		}
	}
	value := func(i int) float64 {
		return []float64{float64(i), 0.25 * float64(i), 1.7322841e9 + float64(i), 1024 * float64(i+1), 1 / float64(i+3)}[i%5]
	}
	histogram := func(name string) *dto.MetricFamily {
		h := &dto.Histogram{SampleCount: proto.Uint64(1100), SampleSum: new(1234.5)}
		for b := range 10 {
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: new(uint64(b) * 100), UpperBound: new(0.005 * float64(int(1)<<b))})
		}
		return family(name, dto.MetricType_HISTOGRAM, &dto.Metric{Label: labels(1), Histogram: h})
	}
	var families []*dto.MetricFamily
	for i := 0; i < n; {
		if i%100 >= 61 && n-i >= 13 {
			families = append(families, histogram(fmt.Sprintf("http_request_duration_%d_seconds", i)))
			i += 13
			continue
		}
		var metrics []*dto.Metric
		for ; i < n && len(metrics) < 4; i++ {
			if i%100 < 30 {
				metrics = append(metrics, &dto.Metric{Label: labels(i), Gauge: &dto.Gauge{Value: new(value(i))}})
			} else {
				metrics = append(metrics, &dto.Metric{Label: labels(i), Counter: &dto.Counter{Value: new(value(i))}})
			}
			if i%100 == 29 || i%100 == 60 {
				i++
				break
			}
		}
		t := dto.MetricType_COUNTER
		if metrics[0].Gauge != nil {
			t = dto.MetricType_GAUGE
		}
		families = append(families, family(fmt.Sprintf("http_server_%d_total", i), t, metrics...))
	}
	return families
}

func family(name string, t dto.MetricType, metrics ...*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: new(name), Help: new("Help for " + name + "."), Type: t.Enum(), Metric: metrics}
}

func textOf(tb testing.TB, families []*dto.MetricFamily) []byte {
	tb.Helper()
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			tb.Fatalf("writing text: %v", err)
		}
	}
	return b.Bytes()
}

func protobufOf(tb testing.TB, families ...*dto.MetricFamily) []byte {
	tb.Helper()
	var b bytes.Buffer
	for _, f := range families {
		if _, err := protodelim.MarshalTo(&b, f); err != nil {
			tb.Fatalf("writing protobuf: %v", err)
		}
	}
	return b.Bytes()
}

func BenchmarkParseText(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		body := textOf(b, sampleFamilies(n))
		b.Run(fmt.Sprintf("%d/ours", n), func(b *testing.B) {
			p := new(exposition.Parser)
			report(b, n, len(body))
			for b.Loop() {
				if _, err := p.ParseText(body, exposition.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/series")
		})
		b.Run(fmt.Sprintf("%d/expfmt", n), func(b *testing.B) {
			p := expfmt.NewTextParser(model.LegacyValidation)
			report(b, n, len(body))
			for b.Loop() {
				if _, err := p.TextToMetricFamilies(bytes.NewReader(body)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/series")
		})
	}
}

func report(b *testing.B, n, size int) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(size))
	b.Logf("%d series in %d bytes", n, size)
}

func decodeAll(body []byte) (int, error) {
	r := bytes.NewReader(body)
	for n := 0; ; n++ {
		var f dto.MetricFamily
		if err := (protodelim.UnmarshalOptions{MaxSize: -1}).UnmarshalFrom(r, &f); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

func BenchmarkParseProtobuf(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		body := protobufOf(b, sampleFamilies(n)...)
		b.Run(fmt.Sprintf("%d/ours", n), func(b *testing.B) {
			p := new(exposition.Parser)
			report(b, n, len(body))
			for b.Loop() {
				if _, err := p.ParseProtobuf(body, exposition.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/series")
		})
		b.Run(fmt.Sprintf("%d/protodelim", n), func(b *testing.B) {
			report(b, n, len(body))
			for b.Loop() {
				if _, err := decodeAll(body); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/series")
		})
	}
}
