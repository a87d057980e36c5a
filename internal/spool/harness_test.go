package spool_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/spool"
)

// house is a spool in a directory, and relays that it may be attached to. It lives in a bubble of synctest.
type house struct {
	t   *testing.T
	cfg spool.Config

	*spool.Spool
	end      context.CancelFunc
	running  sync.WaitGroup
	registry *prometheus.Registry // of the current life
}

func newHouse(t *testing.T, relays ...string) *house {
	t.Helper()
	h := &house{t: t, cfg: spool.Config{Dir: t.TempDir() + "/spool", Agent: "site-a", Relays: relays, Wait: 5 * time.Second}}
	h.open()
	return h
}

// open opens the spool, as a start of the agent does.
func (h *house) open() {
	h.t.Helper()
	cfg := h.cfg
	h.registry = prometheus.NewRegistry()
	cfg.Logger, cfg.Registerer = slog.New(slog.NewTextHandler(h.t.Output(), nil)), h.registry
	h.Spool = spool.New(cfg)
	if err := h.Recover(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	var ctx context.Context
	ctx, h.end = context.WithCancel(context.Background())
	h.running.Go(func() {
		if err := h.Run(ctx); err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
}

// close closes the spool, as an orderly stop does.
func (h *house) close() {
	h.t.Helper()
	h.end()
	h.running.Wait()
	if err := h.Close(); err != nil {
		h.t.Errorf("Close: %v", err)
	}
}

// crash replaces the spool by one that finds on the disk what a kill would have left there now.
func (h *house) crash() {
	h.t.Helper()
	dir := h.copyTo(h.t.TempDir() + "/spool")
	h.close()
	h.cfg.Dir = dir
	h.open()
}

// clone opens a copy of the spool, as a second host with the same data dir does.
func (h *house) clone() *house {
	h.t.Helper()
	clone := &house{t: h.t, cfg: h.cfg}
	clone.cfg.Dir = h.copyTo(h.t.TempDir() + "/spool")
	clone.open()
	return clone
}

func (h *house) copyTo(dir string) string {
	h.t.Helper()
	if err := os.CopyFS(dir, os.DirFS(h.cfg.Dir)); err != nil {
		h.t.Fatal(err)
	}
	return dir
}

func keyOf(job string) grouping.Key {
	key, err := grouping.New(grouping.Label{Name: "job", Value: job})
	if err != nil {
		panic(err)
	}
	return key
}

func request(op change.Operation, job, body string) *change.Change {
	return &change.Change{Operation: op, Key: keyOf(job), Format: exposition.Text004, Body: []byte(body), At: time.Now()}
}

// outcome returns an outcome and its error.
func outcome(o change.Outcome) (change.Outcome, error) { return o, o.Err() }

// isFinal says that an error is one of a change that will never be taken.
func isFinal(err error) bool { return err != nil && change.OutcomeOf(err).IsFinal() }

func (h *house) do(op change.Operation, job, body string) (change.Outcome, error) {
	return outcome(h.Apply(h.t.Context(), request(op, job, body)))
}

// must pushes and wants that outcome.
func (h *house) must(want change.Kind, op change.Operation, job, body string) {
	h.t.Helper()
	if result, err := h.do(op, job, body); err != nil || result.Kind != want {
		h.t.Fatalf("%v %s %q = %+v, %v, want outcome %d", op, job, body, result, err, want)
	}
}

func (h *house) pending(relay string) int {
	h.t.Helper()
	for _, r := range h.Status().Relays {
		if slices.Contains(r.Addresses, relay) {
			return r.Pending
		}
	}
	h.t.Fatalf("no relay %s in %+v", relay, h.Status().Relays)
	return 0
}

// attach opens a session that serves the relay until the function that it returns is called, or the relay loses a verdict.
func (h *house) attach(r *fakeRelay) (detach func()) {
	h.t.Helper()
	journal := h.Journal()
	r.mu.Lock()
	decided, told := r.journals[journal], r.history
	r.mu.Unlock()
	feed, err := h.Attach(spool.Attachment{Relay: r.address, Store: r.id, Journal: journal, Decided: decided, History: told, AgentLabel: "agent"})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var session sync.WaitGroup
	session.Go(func() { h.serve(ctx, feed, r) })
	var once sync.Once
	return func() {
		once.Do(func() {
			cancel()
			session.Wait()
			feed.Detach()
		})
	}
}

// visit attaches the relay until nothing is under way.
func (h *house) visit(r *fakeRelay) {
	h.t.Helper()
	detach := h.attach(r)
	settle()
	detach()
}

func (h *house) serve(ctx context.Context, feed *spool.Feed, r *fakeRelay) {
	var buf bytes.Buffer
	for {
		c, err := feed.Next(ctx)
		if err != nil {
			return
		}
		p, err := r.request(feed, c, buf.AvailableBuffer())
		if err != nil {
			h.t.Errorf("Request: %v", err)
			return
		}
		result, err := r.take(p)
		if r.lose != nil && r.lose() {
			<-ctx.Done() // the session broke before the verdict came
			return
		}
		if err != nil {
			refused := change.OutcomeOf(err)
			refused.Decided = result.Decided
			result = refused
		}
		feed.Decide(c, result)
	}
}

// settle waits until nothing moves any more.
func settle() { synctest.Wait() }

var errClash = change.Refuse(change.Inconsistent, "no fit")

func refuseAll(*change.Change) error { return errClash }

func wantMap(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func isKind(err, kind error) bool { return errors.Is(err, kind) }

// attachIdle opens a session in which nobody asks for changes.
func (h *house) attachIdle(r *fakeRelay) *spool.Feed {
	h.t.Helper()
	feed, err := h.Attach(spool.Attachment{Relay: r.address, Store: r.id, AgentLabel: "agent"})
	if err != nil {
		h.t.Fatal(err)
	}
	return feed
}

// attachTo opens a session with what the relay tells, in which nobody asks for changes.
func (h *house) attachTo(r *fakeRelay) *spool.Feed {
	h.t.Helper()
	feed, err := h.Attach(spool.Attachment{Relay: r.address, Store: r.id, History: r.history, AgentLabel: "agent"})
	if err != nil {
		h.t.Fatal(err)
	}
	return feed
}

// counter returns a counter of the current life.
func (h *house) counter(name string) float64 {
	h.t.Helper()
	return h.metric(name).GetCounter().GetValue()
}

// gauge returns a gauge of the current life.
func (h *house) gauge(name string) float64 {
	h.t.Helper()
	return h.metric(name).GetGauge().GetValue()
}

func (h *house) metric(name string) *dto.Metric {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0]
		}
	}
	h.t.Fatalf("there is no %s", name)
	return nil
}
