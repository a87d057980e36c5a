package groupstore_test

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
)

// benchText returns a body of that many lines: gauges and counters of three labels, each a family of its own, and for every
// hundred lines three histograms of thirteen. The salt makes values of its own, and labels of its own if they are to differ.
func benchText(lines, salt int, own bool) string {
	var b strings.Builder
	status := "200"
	if own {
		status = strconv.Itoa(salt)
	}
	labels := func(i int) string {
		return fmt.Sprintf(`method="GET",path="/api/v1/resource/%02d",status=%q`, i%7, status)
	}
	for i := 0; i < lines; i++ {
		switch {
		case i%100 < 39 && i%13 == 0 && lines >= 100:
			name := fmt.Sprintf("request_duration_seconds_%d", i)
			fmt.Fprintf(&b, "# HELP %s How long requests took, by method and path.\n# TYPE %s histogram\n", name, name)
			for j := range 10 {
				fmt.Fprintf(&b, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels(i), 0.01*float64(j+1), salt%97+j)
			}
			fmt.Fprintf(&b, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels(i), salt%97+10, name, labels(i), 0.37*float64(salt%1000), name, labels(i), salt%97+10)
			i += 12
		case i%2 == 0:
			fmt.Fprintf(&b, "# HELP queue_depth_%d Jobs that wait in the queue.\n# TYPE queue_depth_%d gauge\nqueue_depth_%d{%s} %g\n", i, i, i, labels(i), 0.5*float64((salt+i)%4000))
		default:
			fmt.Fprintf(&b, "# HELP requests_%d_total Requests that were served.\n# TYPE requests_%d_total counter\nrequests_%d_total{%s} %d\n", i, i, i, labels(i), (salt+1)*(i+3)%100000)
		}
	}
	return b.String()
}

// benchBody returns such a body as the scanner hands it over.
func benchBody(tb testing.TB, lines, salt int, own bool) *exposition.Body {
	tb.Helper()
	return bodyOf(parse(tb, benchText(lines, salt, own))...)
}

// filled returns a store of that many groups. One in so many groups has label values of its own; 0 for none.
func filled(tb testing.TB, groups, lines, ownOneIn int) *groupstore.Store {
	tb.Helper()
	s := groupstore.New(groupstore.Config{})
	shared := make([]*exposition.Body, 64)
	for i := range shared {
		shared[i] = benchBody(tb, lines, i*31, false)
	}
	for i := range groups {
		body := shared[i%len(shared)]
		if ownOneIn > 0 && i%ownOneIn == 0 {
			body = benchBody(tb, lines, i, true)
		}
		k := key(tb, "job", "batch", "instance", fmt.Sprintf("host-%06d.example.com:9091", i))
		if _, err := apply(tb.Context(), s, pushing{Operation: put, Key: k, Body: body, At: noon}); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// BenchmarkPush measures a push from the parsed body to the store: the same series with other values, and series that the
// group has not held before.
func BenchmarkPush(b *testing.B) {
	for _, size := range []int{0, 100_000, 1_000_000} {
		if size == 1_000_000 && testing.Short() {
			continue
		}
		s := filled(b, size/100, 100, 0)
		for _, lines := range []int{10, 100, 1000} {
			k := key(b, "job", "bench")
			bodies := []*exposition.Body{benchBody(b, lines, 1, false), benchBody(b, lines, 2, false)}
			fresh := []*exposition.Body{benchBody(b, lines, 1, true), benchBody(b, lines, 2, true)}
			for _, tt := range []struct {
				name   string
				bodies []*exposition.Body
			}{{"same", bodies}, {"fresh", fresh}} {
				b.Run(fmt.Sprintf("store=%d/lines=%d/%s", size, lines, tt.name), func(b *testing.B) {
					b.ReportAllocs()
					c := &change.Change{Operation: put, Key: k, At: noon}
					for i := 0; b.Loop(); i++ {
						if o, _ := s.Apply(b.Context(), c, groupstore.Content{Body: tt.bodies[i%2]}); !o.IsTaken() {
							b.Fatal(o)
						}
					}
				})
			}
		}
	}
}

// BenchmarkWrite measures a scrape from the snapshot to the last byte.
func BenchmarkWrite(b *testing.B) {
	for _, shape := range []struct{ groups, lines, ownOneIn int }{{1_000, 100, 0}, {10_000, 10, 0}, {1_000, 100, 1}} {
		s := filled(b, shape.groups, shape.lines, shape.ownOneIn)
		for _, f := range []struct {
			name   string
			format exposition.Format
		}{{"text", exposition.Text004}, {"protobuf", exposition.ProtobufDelimited}, {"openmetrics", exposition.OpenMetrics100}} {
			b.Run(fmt.Sprintf("%dx%d/own=%d/%s", shape.groups, shape.lines, shape.ownOneIn, f.name), func(b *testing.B) {
				w := &counter{}
				for b.Loop() {
					w.n = 0
					if err := s.Snapshot().Write(w, groupstore.Form{Format: f.format}, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(w.n)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*shape.groups*shape.lines), "ns/series")
			})
		}
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// BenchmarkMemory measures what a filled store takes per series, after it was scraped.
func BenchmarkMemory(b *testing.B) {
	for _, shape := range []struct{ groups, lines, ownOneIn int }{{10_000, 100, 0}, {100_000, 10, 0}, {1_000, 100, 10}, {1_000, 100, 1}} {
		if shape.groups*shape.lines > 100_000 && testing.Short() {
			continue
		}
		b.Run(fmt.Sprintf("%dx%d/own=%d", shape.groups, shape.lines, shape.ownOneIn), func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				s := filled(b, shape.groups, shape.lines, shape.ownOneIn)
				if err := s.Snapshot().Write(io.Discard, groupstore.Form{}, nil); err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				series := float64(shape.groups * shape.lines)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/series, "B/series")
				b.ReportMetric(float64(s.Stats().Bytes)/series, "estimated-B/series")
				runtime.KeepAlive(s)
			}
		})
	}
}

// BenchmarkReplay measures how a store is made again from the changes of groups with the same series.
func BenchmarkReplay(b *testing.B) {
	const groups, lines = 1_000, 100
	j := &journal{}
	s := groupstore.New(groupstore.Config{Appender: j})
	for i := range groups {
		k := key(b, "job", "batch", "instance", strconv.Itoa(i))
		if _, err := apply(b.Context(), s, pushing{Operation: put, Key: k, Body: benchBody(b, lines, i%8, false), At: noon}); err != nil {
			b.Fatal(err)
		}
	}
	records := make([][]byte, len(j.changes))
	for i, c := range j.changes {
		records[i] = groupstore.AppendEffect(nil, uint64(i+1), c)
	}
	for b.Loop() {
		again := groupstore.New(groupstore.Config{})
		for _, r := range records {
			if err := again.Replay(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*groups*lines), "ns/series")
}
