// Package gather serves the relay's exposition: what groups have pushed and what the relay says of itself, as one; or, where it is
// asked with selectors, what the groups that they match have pushed and nothing else.
//
// It promises that a scrape is answered whole or visibly not at all, that a fault in our own telemetry costs nobody the
// pushed metrics, and that stalled scrapers hold no more than a bounded number of old states of the store. It knows HTTP
// and the store and nothing of pushes or agents. Start reading at [Handler.ServeHTTP].
package gather

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/loglimit"
	"pushrelay/internal/policy"
	"pushrelay/internal/scrape"
	"pushrelay/internal/selector"
)

const (
	// defaultTimeout is how long a scrape that does not say waits for its turn, and maxTimeout is the most it may say.
	defaultTimeout = 10 * time.Second
	maxTimeout     = 2 * time.Minute

	// defaultConcurrent is Config.MaxConcurrent where that is not set.
	defaultConcurrent = 8
)

// Store is where the pushed metrics are.
type Store interface {
	// Snapshot returns the present state. It must not block for long.
	Snapshot() *groupstore.View
	// Select returns the present state of those groups for which keep is true. It may take as long as ctx lives.
	Select(ctx context.Context, keep func(groupstore.Group) bool) (*groupstore.View, error)
}

// Config is what a handler is made with.
type Config struct {
	// Store has the pushed metrics. Required.
	Store Store
	// CaughtUp waits until Store holds what others have shown already, where others show the same (C9); an error is 503. Nil stands for nobody else.
	CaughtUp func(ctx context.Context) error
	// Gatherer has the relay's own metrics. What it returns beside an error is exposed all the same. Nil is for a store that others show as well: what is
	// exposed beside it must be the same everywhere.
	Gatherer prometheus.Gatherer
	// Offers says which formats are on offer.
	Offers exposition.Offers
	// MaxConcurrent is how many scrapes may hold a state of the store at once; 0 stands for 8. The others wait their turn.
	MaxConcurrent int
	// Registerer takes the handler's metrics. Required.
	Registerer prometheus.Registerer
	// Logger reports faults of our own telemetry. Required.
	Logger *slog.Logger
}

// Handler serves GET and HEAD of the exposition. It is safe for concurrent use and starts nothing.
type Handler struct {
	cfg     Config
	metrics *metrics
	turns   *httpserver.Turns
	lines   *loglimit.Limiter
	zippers sync.Pool
}

// New returns a handler.
func New(cfg Config) *Handler {
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = defaultConcurrent
	}
	h := &Handler{cfg: cfg, metrics: newMetrics(cfg.Registerer), turns: httpserver.NewTurns(cfg.MaxConcurrent), lines: loglimit.New()}
	h.zippers.New = func() any {
		z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant of the package
		}
		return z
	}
	return h
}

// ServeHTTP answers a GET 200 with the exposition in the form that was negotiated, or 503 if it was not this scrape's turn before
// its timeout. An answer that cannot be written to its end is aborted, so that it cannot pass for a whole one. A HEAD has the
// same header, and costs nothing.
//
// With selectors (match[]) the exposition is that of the groups that any of them matches, without the relay's own metrics; one that
// cannot be read is 400.
//
// What the policy lets the request's user read is left of that, and the relay's own metrics if it lets them read its status; 403 if it is nothing.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	chosen, err := selectorOf(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user := policy.UserOf(r.Context())
	refused := user.Metrics()
	if refused == nil && chosen != nil {
		refused = user.ReadSome()
	}
	if !policy.Permit(w, refused) {
		return
	}
	format, escaping := exposition.Negotiate(r.Header.Get("Accept"), h.cfg.Offers)
	encoding := exposition.NegotiateEncoding(r.Header.Get("Accept-Encoding"))
	if r.Method == http.MethodHead {
		setHeader(w.Header(), format.ContentType(escaping), encoding)
		return
	}
	start := time.Now()
	turn := h.await(w, r)
	if turn == nil {
		h.metrics.observe(resultBusy, time.Since(start))
		http.Error(w, "too many scrapes are being answered at once (--web.max-concurrent-scrapes)", http.StatusServiceUnavailable)
		return
	}
	defer turn.End()
	if h.cfg.CaughtUp != nil {
		if err := h.cfg.CaughtUp(r.Context()); err != nil {
			h.metrics.observe(resultBehind, time.Since(start))
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	view, own, err := h.gather(r, chosen, user)
	if err != nil {
		h.metrics.observe(resultAborted, time.Since(start))
		http.Error(w, "the selectors took longer than the scrape may (match[], or those of the policy file): use shorter regular expressions, or none", http.StatusServiceUnavailable)
		return
	}
	setHeader(w.Header(), format.ContentType(escaping), encoding)
	if err := h.write(turn, view, own, groupstore.Form{Format: format, Escaping: escaping}, encoding); err != nil {
		h.metrics.observe(resultAborted, time.Since(start))
		panic(http.ErrAbortHandler)
	}
	h.metrics.observe(resultComplete, time.Since(start))
}

// selectorOf returns the selectors of a query; nil if it has none. A query that has none is not looked at any further, as
// in a Pushgateway.
func selectorOf(query string) (*selector.Selector, error) {
	values, err := url.ParseQuery(query)
	texts, filtered := values[selector.Parameter]
	switch {
	case err != nil && strings.Contains(query, "match"):
		return nil, fmt.Errorf("the query cannot be read, and its match[] may say which groups are meant: %w", err)
	case !filtered:
		return nil, nil
	}
	chosen, err := selector.Parse(texts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", selector.Parameter, err)
	}
	return chosen, nil
}

// gather returns what is to be exposed: everything, or what is chosen and the user may read. Choosing may take as long as the scrape.
func (h *Handler) gather(r *http.Request, chosen *selector.Selector, user *policy.User) (view *groupstore.View, own []*dto.MetricFamily, err error) {
	if chosen == nil && user.SeesStatus() {
		view = h.cfg.Store.Snapshot() // first: it counts groups for the relay's own metrics
		own = h.own()
	}
	if chosen == nil && user == nil {
		return view, own, nil
	}
	ctx, cancel := context.WithTimeout(httpserver.Outlasting(r.Context()), timeoutOf(r.Header.Get(scrape.TimeoutHeader)))
	defer cancel()
	view, err = h.cfg.Store.Select(ctx, func(g groupstore.Group) bool { return (chosen == nil || chosen.Matches(g.Key())) && user.Sees(g.Key()) })
	return view, own, err
}

// await waits for one of the turns, at most as long as the scraper waits; nil if none came.
func (h *Handler) await(w http.ResponseWriter, r *http.Request) *httpserver.Turn {
	ctx, cancel := context.WithTimeout(r.Context(), timeoutOf(r.Header.Get(scrape.TimeoutHeader)))
	defer cancel()
	return h.turns.Take(ctx, w)
}

// timeoutOf reads the timeout header.
func timeoutOf(seconds string) time.Duration {
	f, err := strconv.ParseFloat(seconds, 64)
	if err != nil || math.IsNaN(f) || f <= 0 {
		return defaultTimeout
	}
	return time.Duration(min(f, maxTimeout.Seconds()) * float64(time.Second))
}

func setHeader(h http.Header, contentType string, encoding exposition.Encoding) {
	h.Set("Content-Type", contentType)
	if encoding == exposition.Gzip {
		h.Set("Content-Encoding", exposition.Gzip.String())
	}
}

func (h *Handler) write(out *httpserver.Turn, view *groupstore.View, own []*dto.MetricFamily, form groupstore.Form, encoding exposition.Encoding) error {
	if encoding != exposition.Gzip {
		return view.Write(out, form, own)
	}
	z := h.zippers.Get().(*gzip.Writer)
	z.Reset(out)
	defer func() {
		z.Reset(io.Discard)
		h.zippers.Put(z)
	}()
	if err := view.Write(z, form, own); err != nil {
		return err
	}
	return z.Close()
}

// own gathers the relay's own metrics. A collector that fails costs its own metrics only (S14).
func (h *Handler) own() []*dto.MetricFamily {
	if h.cfg.Gatherer == nil {
		return nil
	}
	families, err := h.cfg.Gatherer.Gather()
	if err != nil {
		h.metrics.gatherErrors.Inc()
		h.lines.Log(h.cfg.Logger, slog.LevelWarn, "", "own metrics are not complete", slog.Any("err", err))
	}
	return families
}
