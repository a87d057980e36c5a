// Package enginetest has clusters of etcd for tests, on this machine, with real files and sockets.
package enginetest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/cluster/engine"
)

// startGrace bounds how long members may take until they serve.
const startGrace = time.Minute

// A Cluster is one of members a, b, c and so on.
type Cluster struct {
	dir     string
	members map[string]string
	quota   int64

	mu      sync.Mutex
	running map[string]*engine.Engine // guarded by mu
}

// Names are those of n members.
func Names(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = string(rune('a' + i))
	}
	return names
}

// New returns a cluster of n members, none of which runs.
func New(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{dir: t.TempDir(), members: map[string]string{}, running: map[string]*engine.Engine{}}
	for _, name := range Names(n) {
		c.members[name] = freeAddress(t)
	}
	return c
}

// freeAddress returns one of this machine that nobody uses.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// WithQuota has members store no more than so many bytes.
func (c *Cluster) WithQuota(bytes int64) *Cluster {
	c.quota = bytes
	return c
}

// Start starts members, and waits until they serve. They are stopped when the test ends.
func (c *Cluster) Start(t testing.TB, names ...string) map[string]*engine.Engine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startGrace)
	defer cancel()
	started := map[string]*engine.Engine{}
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			e, err := engine.Start(ctx, engine.Config{
				Dir: filepath.Join(c.dir, name), Name: name, Listen: c.members[name], Members: c.members, Quota: c.quota, Token: fmt.Sprint("cluster of ", c.dir),
			})
			if err != nil {
				t.Errorf("member %s: %v", name, err)
				return
			}
			t.Cleanup(func() { c.stop(name, e) })
			c.mu.Lock()
			defer c.mu.Unlock()
			started[name], c.running[name] = e, e
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return started
}

// Stop stops members, which can be started again.
func (c *Cluster) Stop(names ...string) {
	var all sync.WaitGroup
	for _, name := range names {
		c.mu.Lock()
		e := c.running[name]
		c.mu.Unlock()
		all.Go(func() { c.stop(name, e) })
	}
	all.Wait()
}

// stop stops a member, once.
func (c *Cluster) stop(name string, e *engine.Engine) {
	c.mu.Lock()
	runs := c.running[name] == e
	if runs {
		delete(c.running, name)
	}
	c.mu.Unlock()
	if runs {
		e.Close() //nolint:errcheck // The test is over, or starts it again.
	}
}
