// Package gather serves the relay's exposition: what groups have pushed and what the relay says of itself, as one.
//
// It promises that a scrape is answered whole or visibly not at all, that a fault in our own telemetry costs nobody the
// pushed metrics, and that stalled scrapers hold no more than a bounded number of old states of the store. It knows HTTP
// and the store and nothing of pushes or agents. Start reading at [Handler.ServeHTTP].
package gather

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/loglimit"
	"pushrelay/internal/scrape"
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
}

// Config is what a handler is made with.
type Config struct {
	// Store has the pushed metrics. Required.
	Store Store
	// Gatherer has the relay's own metrics. What it returns beside an error is exposed all the same. Required.
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
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	setHeader(w.Header(), format.ContentType(escaping), encoding)
	if err := h.write(turn, groupstore.Form{Format: format, Escaping: escaping}, encoding); err != nil {
		h.metrics.observe(resultAborted, time.Since(start))
		panic(http.ErrAbortHandler)
	}
	h.metrics.observe(resultComplete, time.Since(start))
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

func (h *Handler) write(out *httpserver.Turn, form groupstore.Form, encoding exposition.Encoding) error {
	own := h.own()
	if encoding != exposition.Gzip {
		return h.cfg.Store.Snapshot().Write(out, form, own)
	}
	z := h.zippers.Get().(*gzip.Writer)
	z.Reset(out)
	defer func() {
		z.Reset(io.Discard)
		h.zippers.Put(z)
	}()
	if err := h.cfg.Store.Snapshot().Write(z, form, own); err != nil {
		return err
	}
	return z.Close()
}

// own gathers the relay's own metrics. A collector that fails costs its own metrics only (S14).
func (h *Handler) own() []*dto.MetricFamily {
	families, err := h.cfg.Gatherer.Gather()
	if err != nil {
		h.metrics.gatherErrors.Inc()
		h.lines.Log(h.cfg.Logger, slog.LevelWarn, "", "own metrics are not complete", slog.Any("err", err))
	}
	return families
}
