package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"pushrelay/internal/mtls"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel/tunnelclient"
)

// fleet is many agents in one process. Each has an identity and a connection of its own.
type fleet struct {
	links   []*tunnelclient.Link
	running sync.WaitGroup
}

// newFleet makes the links of all agents. It starts nothing.
func newFleet(relayAddress string, enrolled []mtls.Files) (*fleet, error) {
	f := &fleet{}
	metrics := tunnelclient.NewMetrics(prometheus.NewRegistry())
	for i, files := range enrolled {
		certificates, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: files})
		if err != nil {
			return nil, err
		}
		link := tunnelclient.NewLink(tunnelclient.Config{
			Address: relayAddress, Certificates: certificates, Scraper: scrape.NewHTTPScraper(), MaxConcurrentScrapes: 1,
			Process: tunnelclient.NewProcess(), Logger: promslog.NewNopLogger(), Metrics: metrics,
		})
		link.SetTargets(target.Set{Completeness: target.Complete, Targets: []target.Target{{
			Name: "node-localhost:9100", Job: "node", Instance: agentName(i), Address: "localhost:9100", Scheme: "http", MetricsPath: "/metrics",
		}}})
		f.links = append(f.links, link)
	}
	return f, nil
}

func agentName(i int) string { return fmt.Sprintf("agent-%05d", i) }

// start lets all agents dial until ctx ends.
func (f *fleet) start(ctx context.Context) {
	for _, link := range f.links {
		f.running.Go(func() { link.Run(ctx) }) //nolint:errcheck // Run returns nil.
	}
}

func (f *fleet) wait() { f.running.Wait() }

func (f *fleet) attached() int {
	n := 0
	for _, link := range f.links {
		if link.Status().Connected {
			n++
		}
	}
	return n
}

// await waits until every agent is attached, and shows how far it came.
func (f *fleet) await(ctx context.Context, out io.Writer) error {
	deadline := time.Now().Add(5 * time.Minute)
	for shown := time.Now(); ; {
		n := f.attached()
		if n == len(f.links) {
			return nil
		}
		if time.Since(shown) > 5*time.Second {
			shown = time.Now()
			fmt.Fprintf(out, "  %d of %d attached\n", n, len(f.links))
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d agents are attached: %s", n, len(f.links), f.firstError())
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func (f *fleet) firstError() string {
	for _, link := range f.links {
		if st := link.Status(); !st.Connected {
			return st.LastError
		}
	}
	return ""
}

// awaitGone waits until no agent believes to be attached.
func (f *fleet) awaitGone(ctx context.Context) {
	for f.attached() > 0 {
		if pause(ctx, 50*time.Millisecond) != nil {
			return
		}
	}
}
