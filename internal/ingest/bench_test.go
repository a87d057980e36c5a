package ingest_test

import (
	"fmt"
	"strings"
	"testing"

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
