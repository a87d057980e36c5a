package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pushrelay/internal/faultproxy"
)

// parallel is how many scrapes of the big body run at once.
const parallel = 8

// farRoundTrip is that of the slow network.
const farRoundTrip = 100 * time.Millisecond

// measureTunnel measures scrapes through relay and agent beside scrapes of the same target without them.
func measureTunnel(ctx context.Context, l *lab) ([]row, error) {
	t, err := l.startTarget(ctx)
	if err != nil {
		return nil, err
	}
	paths := []string{thousandPath, bigPath, farPath}
	s, err := l.newSite(ctx, t, paths)
	if err != nil {
		return nil, err
	}
	direct := route{name: "direct", address: t.address, paths: map[string]string{}}
	for _, path := range paths {
		direct.paths[path] = path
	}
	near, err := l.measureNear(ctx, s, direct)
	if err != nil {
		return nil, err
	}
	far, err := l.measureFar(ctx, s, direct)
	return append(near, far...), err
}

// measureNear measures on loopback, with mutual TLS between agent and relay.
func (l *lab) measureNear(ctx context.Context, s *site, direct route) ([]row, error) {
	agent, err := s.attach(ctx, s.dialIn)
	if err != nil {
		return nil, err
	}
	tunnel := route{name: "tunnel", address: s.relay.address, paths: s.served}
	routes := []route{tunnel, direct}
	pushprox, err := l.pushprox(ctx, direct)
	if err != nil {
		return nil, err
	}
	if pushprox != nil {
		routes = append(routes, *pushprox)
	}
	var arms []arm
	for _, r := range routes {
		arms = append(arms,
			p50("1,000 series "+r.name, r.open, thousandPath, l.sizes.tunnelScrapes),
			p50("5 MB "+r.name, r.open, bigPath, max(3, l.sizes.tunnelScrapes/8)),
			throughput("parallel "+r.name, r, bigPath, max(1, l.sizes.tunnelScrapes/8)))
	}
	l.say("measuring scrapes on loopback")
	m, err := interleave(ctx, l.rounds, arms)
	if err != nil {
		return nil, err
	}
	big := fmt.Sprintf("%.1f MB", float64(l.sizes.bigBody)/1e6)
	rows := []row{
		newRow("p50 of 1,000 series", "ms", m["1,000 series tunnel"]).
			more(m["1,000 series tunnel"], "direct", m["1,000 series direct"]).limited(limit{Bound: 0.6, Of: "compared"}),
		newRow("p50 of "+big, "ms", m["5 MB tunnel"]).
			times(m["5 MB tunnel"], "direct", m["5 MB direct"]).limited(limit{Bound: 4, Of: "compared"}),
		newRow(fmt.Sprintf("%d parallel scrapes of %s", parallel, big), "MB/s", m["parallel tunnel"]).
			times(m["parallel tunnel"], "direct", m["parallel direct"]).limited(limit{Bound: 500, Of: "relay", Least: true}),
	}
	if pushprox != nil {
		rows = append(rows, besidePushProx(m, big)...)
	}
	return rows, s.detach(ctx, agent)
}

// besidePushProx returns the rows that do not depend on how fast the machine is. The limits of the tunnel are those of a
// machine on which PushProx takes 0.86 ms more than a direct scrape of 1,000 series, 6.7 times as long for 5 MB, and passes
// on 393 MB/s of 8 parallel scrapes: these are the same limits as parts of what PushProx takes here. What it takes beside a direct
// scrape says how far this measurement is that of the limits.
func besidePushProx(m map[string]samples, big string) []row {
	moreThanDirect := func(route string) samples {
		return m["1,000 series "+route].pairwise(m["1,000 series direct"], difference)
	}
	rows := []row{
		newRow("p50 of 1,000 series, above direct", "ms", moreThanDirect("tunnel")).
			times(moreThanDirect("tunnel"), "PushProx", moreThanDirect("pushprox")).limited(limit{Bound: 0.6 / 0.86, Of: "compared"}),
		newRow("p50 of "+big, "ms", m["5 MB tunnel"]).
			times(m["5 MB tunnel"], "PushProx", m["5 MB pushprox"]).limited(limit{Bound: 4 / 6.7, Of: "compared"}),
		newRow(fmt.Sprintf("%d parallel scrapes of %s", parallel, big), "MB/s", m["parallel tunnel"]).
			times(m["parallel tunnel"], "PushProx", m["parallel pushprox"]).limited(limit{Bound: 500. / 393, Of: "compared", Least: true}),
		newRow("p50 of "+big+", PushProx itself", "ms", m["5 MB pushprox"]).
			times(m["5 MB pushprox"], "direct", m["5 MB direct"]),
	}
	for i := range rows {
		rows[i] = rows[i].noting("PushProx without TLS")
	}
	return rows
}

// p50 returns an arm that measures the median of so many scrapes, one after the other, in ms.
func p50(name string, open func(context.Context) (client, error), path string, scrapes int) arm {
	return arm{name, func(ctx context.Context) (float64, error) {
		took, err := times(ctx, open, path, scrapes)
		if err != nil {
			return 0, err
		}
		return milliseconds(median(took)), nil
	}}
}

// throughput returns an arm that measures MB of body per second over parallel connections, on which there was a scrape already: those
// of a Prometheus are open for days.
func throughput(name string, r route, path string, scrapesEach int) arm {
	return arm{name, func(ctx context.Context) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, measureTimeout)
		defer cancel()
		var clients [parallel]client
		for i := range clients {
			var err error
			if clients[i], err = r.open(ctx); err != nil {
				return 0, err
			}
			defer clients[i].close()
		}
		if _, err := scrapeAll(clients[:], path, 1); err != nil {
			return 0, err
		}
		begun := time.Now()
		bytes, err := scrapeAll(clients[:], path, scrapesEach)
		return float64(bytes) / 1e6 / time.Since(begun).Seconds(), err
	}}
}

// scrapeAll lets all clients scrape so many times each, at once, and returns the bytes of all bodies.
func scrapeAll(clients []client, path string, each int) (int64, error) {
	var total atomic.Int64
	var all errgroup.Group
	for _, c := range clients {
		all.Go(func() error {
			for range each {
				n, err := c.scrape(path)
				if err != nil {
					return err
				}
				total.Add(n)
			}
			return nil
		})
	}
	err := all.Wait()
	return total.Load(), err
}

// laterScrapes are those over the slow network that follow the first of a session.
const laterScrapes = 4

// measureFar measures with a long way between agent and relay. Each round has an agent of its own, whose first scrape is also the
// first thing that it does, and then a session of its own, whose first scrape finds the windows of a new connection.
func (l *lab) measureFar(ctx context.Context, s *site, direct route) ([]row, error) {
	network, err := faultproxy.Listen(faultproxy.Config{Address: s.dialIn})
	if err != nil {
		return nil, err
	}
	defer network.Close()
	network.Set(faultproxy.Conditions{Latency: farRoundTrip / 2})
	l.say("measuring scrapes over %v of round trip", farRoundTrip)
	var cold, first, later, near samples
	for range l.rounds {
		agent, err := s.attach(ctx, network.Addr())
		if err != nil {
			return nil, err
		}
		far := route{name: "far", address: s.relay.address, paths: s.served}
		once, err := times(ctx, far.open, farPath, 1)
		if err != nil {
			return nil, err
		}
		if err := s.reattach(ctx, agent, network); err != nil {
			return nil, err
		}
		again, err := times(ctx, far.open, farPath, 1+laterScrapes)
		if err != nil {
			return nil, err
		}
		if err := s.detach(ctx, agent); err != nil {
			return nil, err
		}
		own, err := times(ctx, direct.open, farPath, 1+laterScrapes)
		if err != nil {
			return nil, err
		}
		cold = append(cold, milliseconds(once[0]))
		first = append(first, milliseconds(again[0]))
		later = append(later, milliseconds(median(again[1:])))
		near = append(near, milliseconds(median(own)))
	}
	bound := limit{Bound: milliseconds(farRoundTrip) + 20, Of: "compared"}
	size := fmt.Sprintf("%.0f MiB over %v of round trip", float64(l.sizes.farBody)/(1<<20), farRoundTrip)
	return []row{
		newRow("first scrape of an agent, "+size, "ms", cold).more(cold, "direct", near).limited(bound),
		newRow("first scrape of a session, "+size, "ms", first).more(first, "direct", near).limited(bound),
		newRow("later scrapes, "+size, "ms", later).more(later, "direct", near).limited(bound),
	}, nil
}

// pushprox starts the two programs of PushProx, as its README has them, and returns the way through them; nil where the
// environment does not name them. It runs without TLS, which is all that its proxy offers.
func (l *lab) pushprox(ctx context.Context, direct route) (*route, error) {
	proxyPath, agentPath := os.Getenv("PUSHPROX_PROXY"), os.Getenv("PUSHPROX_CLIENT")
	if proxyPath == "" || agentPath == "" {
		return nil, nil
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	proxy, err := startProgram(l.dir, "pushprox-proxy", address, proxyPath, "--web.listen-address="+address)
	if err != nil {
		return nil, err
	}
	proxy.endsBySignal = true
	l.started = append(l.started, proxy)
	if err := proxy.until(ctx, func(ctx context.Context) error { _, err := get(ctx, address, "/clients"); return err }); err != nil {
		return nil, err
	}
	agent, err := startProgram(l.dir, "pushprox-client", "", agentPath, "--fqdn=127.0.0.1", "--proxy-url=http://"+address+"/", "--metrics-addr=")
	if err != nil {
		return nil, err
	}
	agent.endsBySignal = true
	l.started = append(l.started, agent)
	r := &route{name: "pushprox", address: direct.address, proxy: address, paths: direct.paths, header: map[string]string{"X-Prometheus-Scrape-Timeout-Seconds": "10"}}
	return r, agent.until(ctx, func(ctx context.Context) error {
		_, err := times(ctx, r.open, thousandPath, 1)
		return err
	})
}
