package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// A route is a way to scrape the target.
type route struct {
	name    string
	address string            // whom to ask
	proxy   string            // the HTTP proxy on the way; empty for none
	paths   map[string]string // what to ask for, by the target's own path
	header  map[string]string
}

// scraping scrapes a path so many times over one connection, and returns how long each took and the bytes of all bodies.
type scraping func(ctx context.Context, path string, n int) ([]time.Duration, int64, error)

// scrapes is a scraping with the client that Prometheus has too, net/http's. It reads a body as io.Copy does, 8 KiB at a time. Beside a
// direct scrape that is read so PushProx takes about what it took where the limits come from.
func (r route) scrapes(ctx context.Context, path string, n int) ([]time.Duration, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	if r.proxy != "" {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.proxy})
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+r.paths[path], http.NoBody)
	if err != nil {
		return nil, 0, fmt.Errorf("scraping %s: %w", r.name, err)
	}
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	client := http.Client{Transport: transport}
	return r.repeat(n, func() (int64, error) {
		resp, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("status %d", resp.StatusCode)
		}
		return io.Copy(io.Discard, resp.Body)
	})
}

// inLargePieces is a scraping that costs the machine as little as can be: see [wire].
func (r route) inLargePieces(ctx context.Context, path string, n int) ([]time.Duration, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	address, target := r.address, r.paths[path]
	if r.proxy != "" {
		address, target = r.proxy, "http://"+r.address+target // as a scraper asks its proxy
	}
	w, err := dialWire(ctx, address)
	if err != nil {
		return nil, 0, err
	}
	defer w.close()
	request := getRequest(address, target, r.header)
	return r.repeat(n, func() (int64, error) {
		_, size, err := scrapeOn(w, request)
		return size, err
	})
}

// repeat scrapes so many times, and returns how long each took and the bytes of all bodies.
func (r route) repeat(n int, scrape func() (int64, error)) ([]time.Duration, int64, error) {
	var total int64
	times := make([]time.Duration, n)
	for i := range times {
		begun := time.Now()
		size, err := scrape()
		times[i] = time.Since(begun)
		if err != nil {
			return nil, 0, fmt.Errorf("scraping %s: %w", r.name, err)
		}
		total += size
	}
	return times, total, nil
}
