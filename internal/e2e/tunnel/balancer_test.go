//go:build linux

package tunnel_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// A balancer is what people put in front of two relays: one name, a health check of /-/ready, each request to one of those
// that are healthy, and to the other one if that does not answer or says that it cannot, 502 to 504. It is what
// docs/how-to/two-relays.md tells people to set up.
type balancer struct {
	url      string
	backends []*backend
	next     atomic.Uint64 // turn by turn
}

// A backend is a relay as its balancer sees it.
type backend struct {
	address string
	healthy atomic.Bool
	unaware atomic.Bool  // of what became of it: it is asked on as it was
	served  atomic.Int64 // requests that it answered for good
	retried atomic.Int64 // requests that another one had to answer
}

// newBalancer balances an address over relays that may not have started yet.
func newBalancer(t testing.TB, address string, relays ...string) *balancer {
	t.Helper()
	b := &balancer{url: "http://" + address}
	for _, relay := range relays {
		b.backends = append(b.backends, &backend{address: relay})
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: b, ReadHeaderTimeout: client.Patience}
	var running sync.WaitGroup
	running.Go(func() { server.Serve(listener) })
	for _, be := range b.backends {
		running.Go(func() { be.check(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		server.Close()
		running.Wait()
	})
	return b
}

// check looks whether the relay is ready, until ctx ends.
func (be *backend) check(ctx context.Context) {
	for ; ctx.Err() == nil; client.Pause(ctx, time.Second) {
		_, err := client.WantOK("http://" + be.address + "/-/ready")
		if !be.unaware.Load() {
			be.healthy.Store(err == nil)
		}
	}
}

// learn has something done to a relay that the balancer takes for healthy, and learns from requests: at least one of them
// another relay has to answer.
func (be *backend) learn(t testing.TB, happens func()) {
	t.Helper()
	be.unaware.Store(true)
	defer be.unaware.Store(false)
	be.healthy.Store(true)
	before := be.retried.Load()
	happens()
	client.Eventually(t, client.Patience, "a request that "+be.address+" could not answer", func() error {
		if be.retried.Load() == before {
			return errors.New("there was none")
		}
		return nil
	})
}

// order returns the backends as they are to be tried: those that are healthy first, turn by turn.
func (b *balancer) order() []*backend {
	turn := int(b.next.Add(1))
	var healthy, others []*backend
	for i := range b.backends {
		be := b.backends[(turn+i)%len(b.backends)]
		if be.healthy.Load() {
			healthy = append(healthy, be)
		} else {
			others = append(others, be)
		}
	}
	return append(healthy, others...)
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	order := b.order()
	for i, be := range order {
		resp, err := be.ask(r)
		unable := err != nil || resp.StatusCode >= 502 && resp.StatusCode <= 504
		if unable && i+1 < len(order) {
			be.retried.Add(1)
			if err == nil {
				resp.Body.Close()
			}
			continue
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		be.served.Add(1)
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, err = io.Copy(w, resp.Body)
		resp.Body.Close()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		return
	}
}

// ask passes a request on, with the host that it was sent to.
func (be *backend) ask(r *http.Request) (*http.Response, error) {
	out := httputil.ProxyRequest{In: r, Out: r.Clone(r.Context())}
	out.SetURL(&url.URL{Scheme: "http", Host: be.address})
	out.Out.Host = r.Host
	return http.DefaultTransport.RoundTrip(out.Out)
}
