package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureTimeout bounds one measurement: what takes longer is stuck.
const measureTimeout = 10 * time.Minute

// A source returns the i-th request. It may use the scratch for it, and is called concurrently.
type source func(i int, scratch []byte) []byte

// prepared returns the requests in turn.
func prepared(requests [][]byte) source {
	return func(i int, _ []byte) []byte { return requests[i%len(requests)] }
}

// pushed is how a number of pushes went.
type pushed struct {
	wall      time.Duration
	latencies []time.Duration // sorted
}

func (p pushed) perSecond() float64 { return float64(len(p.latencies)) / p.wall.Seconds() }

// microseconds returns what one push costs the one who waits for it, at concurrency 1.
func (p pushed) microseconds() float64 {
	return float64(p.wall.Microseconds()) / float64(len(p.latencies))
}

// p99 returns the latency in ms that one push in a hundred exceeds.
func (p pushed) p99() float64 {
	return milliseconds(p.latencies[len(p.latencies)*99/100])
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// push sends that many requests over that many connections, each waiting for its answer before the next.
func push(ctx context.Context, address string, requests source, connections, count int) (pushed, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	wires := make([]*wire, connections)
	for i := range wires {
		w, err := dialWire(ctx, address)
		if err != nil {
			return pushed{}, err
		}
		defer w.close()
		wires[i] = w
	}
	latencies := make([]time.Duration, count)
	var next atomic.Int64
	start := time.Now()
	var all errgroup.Group
	for _, w := range wires {
		all.Go(func() error {
			var scratch []byte
			for {
				i := int(next.Add(1)) - 1
				if i >= count || ctx.Err() != nil {
					return ctx.Err()
				}
				request := requests(i, scratch[:0])
				scratch = request[:0]
				sent := time.Now()
				if err := pushOne(w, request); err != nil {
					return err
				}
				latencies[i] = time.Since(sent)
			}
		})
	}
	err := all.Wait()
	p := pushed{wall: time.Since(start), latencies: latencies}
	slices.Sort(p.latencies)
	return p, err
}

func pushOne(w *wire, request []byte) error {
	var reason bytes.Buffer
	a, err := w.exchange(request, &reason)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK && a.status != http.StatusAccepted {
		return fmt.Errorf("pushing: status %d: %s", a.status, bytes.TrimSpace(reason.Bytes()))
	}
	return nil
}

// fill pushes every group of the shape once.
func fill(ctx context.Context, address string, s shape) error {
	requests := func(i int, scratch []byte) []byte {
		return appendPut(scratch, address, s.path(i), textType, s.body(i, 0))
	}
	// More connections than processors, since a durable push spends its time waiting.
	if _, err := push(ctx, address, requests, 32*runtime.NumCPU(), s.groups); err != nil {
		return fmt.Errorf("filling %s with %s: %w", address, s, err)
	}
	return nil
}

// The ways of asking for an exposition.
var (
	plainText     = map[string]string{"Accept": textType, "Accept-Encoding": "identity"}
	gzipText      = map[string]string{"Accept": textType, "Accept-Encoding": "gzip"}
	plainProtobuf = map[string]string{"Accept": protobufType, "Accept-Encoding": "identity"}
)

// scrape returns how long it takes to have the whole exposition.
func scrape(ctx context.Context, address, path string, header map[string]string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	w, err := dialWire(ctx, address)
	if err != nil {
		return 0, err
	}
	defer w.close()
	start := time.Now()
	a, err := w.exchange(getRequest(address, path, header), nil)
	elapsed := time.Since(start)
	if err != nil {
		return 0, err
	}
	if a.status != http.StatusOK {
		return 0, fmt.Errorf("scraping: status %d", a.status)
	}
	return elapsed, nil
}

// countSeries returns how many pushed series an exposition shows: what is fast must also be right.
func countSeries(ctx context.Context, address string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	w, err := dialWire(ctx, address)
	if err != nil {
		return 0, err
	}
	defer w.close()
	var c lineCounter
	if _, err := w.exchange(getRequest(address, "/metrics", plainText), &c); err != nil {
		return 0, err
	}
	return c.lines, nil
}

// A lineCounter counts the lines that begin as those of shape do.
type lineCounter struct {
	lines int
	rest  []byte // a line that has not ended yet
}

// Write counts the lines that are whole.
func (c *lineCounter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, more, found := bytes.Cut(p, []byte{'\n'})
		if !found {
			c.rest = append(c.rest, line...)
			return n, nil
		}
		c.rest = append(c.rest, line...)
		if bytes.HasPrefix(c.rest, []byte("worker_")) {
			c.lines++
		}
		c.rest, p = c.rest[:0], more
	}
}
