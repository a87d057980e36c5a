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

// A client scrapes over one connection, one scrape after the other. Whoever opens it closes it.
type client struct {
	// scrape scrapes what the target serves at a path, and returns the bytes of the body.
	scrape func(path string) (int64, error)
	close  func()
}

// open returns a client as Prometheus has one, of net/http, that ends with ctx. It reads a body as io.Copy does, 8 KiB at a time. Beside
// a direct scrape that is read so PushProx takes about what it took where the limits come from.
func (r route) open(ctx context.Context) (client, error) {
	transport := &http.Transport{DisableCompression: true}
	if r.proxy != "" {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.proxy})
	}
	c := http.Client{Transport: transport}
	return client{close: transport.CloseIdleConnections, scrape: func(path string) (int64, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.address+r.paths[path], http.NoBody)
		if err != nil {
			return 0, fmt.Errorf("scraping %s: %w", r.name, err)
		}
		for name, value := range r.header {
			request.Header.Set(name, value)
		}
		resp, err := c.Do(request)
		if err != nil {
			return 0, fmt.Errorf("scraping %s: %w", r.name, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("scraping %s: status %d", r.name, resp.StatusCode)
		}
		return io.Copy(io.Discard, resp.Body)
	}}, nil
}

// times scrapes a path so many times over one connection, and returns how long each scrape took.
func times(ctx context.Context, open func(context.Context) (client, error), path string, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	c, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	took := make([]time.Duration, n)
	for i := range took {
		begun := time.Now()
		if _, err := c.scrape(path); err != nil {
			return nil, err
		}
		took[i] = time.Since(begun)
	}
	return took, nil
}
