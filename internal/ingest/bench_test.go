package ingest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
)

// text returns a body of that many series, with values that the salt makes.
func text(series, salt int) []byte {
	var b strings.Builder
	for i := range series {
		fmt.Fprintf(&b, "# HELP requests_%d_total Requests that were served.\n# TYPE requests_%d_total counter\n", i, i)
		fmt.Fprintf(&b, "requests_%d_total{method=\"GET\",path=\"/api/v1/resource/%02d\",status=\"200\"} %d\n", i, i%7, (salt+1)*(i+3)%100000)
	}
	return []byte(b.String())
}

// BenchmarkPush measures a push from its bytes to the store: what a relay does beside HTTP and the disk.
func BenchmarkPush(b *testing.B) {
	for _, series := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(series), func(b *testing.B) {
			bench := newBench(b, ingest.Config{Limits: exposition.Limits{MaxSeries: 100_000, MaxLabels: 64, MaxLabelLength: 16 << 10}}, groupstore.Config{})
			bodies := [][]byte{text(series, 1), text(series, 2)}
			r := &change.Change{Operation: change.Replace, Key: key(b, "job", "j", "instance", "i"), At: noon}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.Body = bodies[i%2]
				if err := bench.ingester.Apply(b.Context(), r).Err(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series), "ns/series")
		})
	}
}

// BenchmarkAdd measures pushes of 50 series that are added, beside the same that replace what the group has; they take turns. It is what a relay does
// beside HTTP and the disk, which are the same for both.
func BenchmarkAdd(b *testing.B) {
	bench := newBench(b, ingest.Config{Limits: exposition.Limits{MaxSeries: 100_000, MaxLabels: 64, MaxLabelLength: 16 << 10}}, groupstore.Config{})
	bodies := [][]byte{text(50, 1), text(50, 2)}
	took := map[change.Operation][]float64{}
	for b.Loop() {
		for _, op := range []change.Operation{change.Replace, change.Add} {
			c := &change.Change{Operation: op, Key: key(b, "job", op.String()), At: noon}
			start := time.Now()
			for i := range 200 {
				c.Body = bodies[i%2]
				if err := bench.ingester.Apply(b.Context(), c).Err(); err != nil {
					b.Fatal(err)
				}
			}
			took[op] = append(took[op], time.Since(start).Seconds())
		}
	}
	parts := make([]float64, len(took[change.Add]))
	for i := range parts {
		parts[i] = took[change.Add][i] / took[change.Replace][i]
	}
	slices.Sort(parts)
	slices.Sort(took[change.Replace])
	b.ReportMetric(parts[len(parts)/2], "times-a-PUT")
	b.ReportMetric(took[change.Replace][len(parts)/2]/200*1e6, "µs-PUT")
}

// BenchmarkPushOfAgent measures a small push with an origin and the agent's label, whose body is matched or parsed.
func BenchmarkPushOfAgent(b *testing.B) {
	for _, tt := range []struct {
		name string
		push change.Change
	}{
		{"matched", change.Change{Operation: change.Replace, Body: text(10, 1)}},
		{"parsed", change.Change{Operation: change.Replace, Format: exposition.ProtobufDelimited, Body: delimited(b, &dto.MetricFamily{
			Name: proto.String("m"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{Counter: &dto.Counter{Value: proto.Float64(3)}}},
		})}},
		{"delete", change.Change{Operation: change.Delete}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			bench := newBench(b, ingest.Config{AgentLabel: "agent"}, groupstore.Config{})
			tt.push.Key, tt.push.At, tt.push.Agent, tt.push.Origin = key(b, "job", "j", "instance", "i"), noon, "site", &change.Origin{}
			b.ReportAllocs()
			for b.Loop() {
				tt.push.Origin.Sequence++
				if err := bench.ingester.Apply(b.Context(), &tt.push).Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
