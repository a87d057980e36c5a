package link_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/scrape"
)

// BenchmarkPush: a push where it is decided, and one that another relay hands on; alone, and many at once. Nothing is waited for but the link.
func BenchmarkPush(b *testing.B) {
	for _, asked := range []string{"a", "b"} {
		name := map[string]string{"a": "local", "b": "forwarded"}[asked]
		c := newCluster(b, "a", "b")
		c.set(func() { c.direct = true })
		c.lead("a")
		m := c.members[asked]
		m.Forwarder.Apply(b.Context(), pushOf(b, "warm", 0))
		b.Run(name+"/alone", func(b *testing.B) {
			p := pushOf(b, "j", 1)
			for b.Loop() {
				if o := m.Forwarder.Apply(b.Context(), p); !o.IsTaken() {
					b.Fatal(o)
				}
			}
		})
		b.Run(name+"/together", func(b *testing.B) {
			b.SetParallelism(64)
			var next atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				p := pushOf(b, fmt.Sprint("j", next.Add(1)), 1)
				for pb.Next() {
					if o := m.Forwarder.Apply(b.Context(), p); !o.IsTaken() {
						b.Error(o)
					}
				}
			})
		})
	}
}

// BenchmarkScrape: a body of 5 MB from a session of this relay's, and over another relay.
func BenchmarkScrape(b *testing.B) {
	body := bytes.Repeat([]byte("metric_of_some_length{label=\"value\"} 1\n"), 5<<20/39)
	c := newCluster(b, "a", "b")
	c.set(func() { c.direct = true })
	scraper := func(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
		return answer(bytes.NewReader(body), int64(len(body)))(ctx, r)
	}
	for _, m := range c.members {
		m.local.scrape = scraper
	}
	c.members["a"].local.here.Store(true)
	c.members["b"].at("a")
	for _, asked := range []string{"a", "b"} {
		b.Run(map[string]string{"a": "local", "b": "forwarded"}[asked], func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
				resp, err := c.members[asked].Scraper.Scrape(ctx, scrapeOf())
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(body)) {
					b.Fatal(n, err)
				}
				resp.Body.Close()
				cancel()
			}
		})
	}
}
