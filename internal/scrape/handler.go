package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/httpserver"
)

const (
	// defaultTimeout is how long a scrape may take whose scraper does not say.
	defaultTimeout = 10 * time.Second
	// returnMargin is what the relay keeps of a scraper's timeout, so that its answer arrives before the scraper gives up
	// and the reason is known there. It is never more than a quarter of the timeout (T28).
	returnMargin = 50 * time.Millisecond
	// copyBytes is the size of the buffer between two hops. What scrapes at once copy has to fit into the cache of a processor
	// beside what they copy from: 256 KiB each are up to a twentieth slower.
	copyBytes = 96 << 10
)

// HandlerConfig is what a [Handler] works with.
type HandlerConfig struct {
	// Scraper carries the scrapes out. Required.
	Scraper Scraper
	// Permit says whether a request may scrape a target, which need not be known: an error is the answer. Asked is how the request calls it, and all
	// that the error may tell of it. Nil permits everything.
	Permit func(r *http.Request, agent, target, asked string) *Error
	// MaxTimeout bounds the scrape's time whatever the scraper asks for. Required.
	MaxTimeout time.Duration
	// MaxBodyBytes bounds a body; 0 means no bound.
	MaxBodyBytes int64
	// Logger reports failed scrapes at debug level. Required.
	Logger *slog.Logger
}

// Handler serves scrapes of targets behind agents: GET and HEAD of a path with the parameters agent and target.
type Handler struct {
	cfg     HandlerConfig
	buffers sync.Pool // of *[]byte, copyBytes each: most scrapes are smaller, and would leave one behind
}

// NewHandler returns a handler. It starts nothing.
func NewHandler(cfg HandlerConfig) *Handler {
	return &Handler{cfg: cfg, buffers: sync.Pool{New: func() any { b := make([]byte, copyBytes); return &b }}}
}

// ServeHTTP answers with the target's own answer, or with the reason why there is none.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := &Request{Agent: route.Param(r.Context(), "agent"), Target: route.Param(r.Context(), "target"), RawQuery: r.URL.RawQuery}
	if err := h.permit(r, req.Agent, req.Target, fmt.Sprintf("target %.256q of agent %.256q", req.Target, req.Agent)); err != nil {
		h.fail(w, req, err)
		return
	}
	h.serve(w, r, req)
}

func (h *Handler) permit(r *http.Request, agent, target, asked string) *Error {
	if h.cfg.Permit == nil {
		return nil
	}
	return h.cfg.Permit(r, agent, target, asked)
}

// serve carries out the scrape that req names; the rest of req comes from the HTTP request.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, req *Request) {
	timeout, err := ParseTimeout(r.Header.Get(TimeoutHeader), h.cfg.MaxTimeout)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	req.Method, req.Header, req.MaxBodyBytes = r.Method, RequestHeader(r.Header), h.cfg.MaxBodyBytes
	resp, err := h.cfg.Scraper.Scrape(ctx, req)
	if err != nil {
		h.fail(w, req, AsError(ctx, err))
		return
	}
	defer resp.Body.Close()
	h.forward(ctx, w, req, resp)
}

// ParseTimeout returns the time that a scrape may take at the relay, from the header of the scraper: less the margin for
// the way back, at most the limit.
func ParseTimeout(header string, limit time.Duration) (time.Duration, error) {
	timeout := defaultTimeout
	if header != "" {
		seconds, err := strconv.ParseFloat(header, 64)
		if err != nil || math.IsNaN(seconds) || seconds <= 0 {
			return 0, fmt.Errorf("%s is %q, want a positive number of seconds", TimeoutHeader, header)
		}
		timeout = time.Duration(min(seconds, limit.Seconds()) * float64(time.Second))
	}
	timeout = min(timeout, limit)
	return timeout - min(returnMargin, timeout/4), nil
}

func (h *Handler) fail(w http.ResponseWriter, r *Request, err *Error) {
	h.cfg.Logger.Debug("scrape failed", slog.String("agent", r.Agent), slog.String("target", r.Target), slog.String("reason", string(err.Reason)), slog.Any("err", err.Message))
	disarm(w.Header())
	w.Header().Set(ErrorHeader, string(err.Reason))
	http.Error(w, err.Error(), err.Reason.Status())
}

// forward streams the answer. Its head waits for the first bytes of the body: an answer that fails before them still gets
// a status and a reason. After the head a failure can only be told by breaking the connection: anything else would let a
// part of a body look like the whole.
func (h *Handler) forward(ctx context.Context, w http.ResponseWriter, r *Request, resp *Response) {
	buffer := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buffer)
	n, err := io.ReadAtLeast(resp.Body, *buffer, 1)
	if err != nil && !errors.Is(err, io.EOF) {
		h.fail(w, r, AsError(ctx, err))
		return
	}
	writeHead(w, resp)
	out := httpserver.NewStallWriter(w)
	if _, err = out.Write((*buffer)[:n]); err == nil {
		_, err = io.CopyBuffer(out, resp.Body, *buffer)
	}
	if err == nil || r.Method == http.MethodHead && errors.Is(err, http.ErrBodyNotAllowed) {
		return
	}
	h.cfg.Logger.Debug("scrape aborted", slog.String("agent", r.Agent), slog.String("target", r.Target), slog.String("reason", string(AsError(ctx, err).Reason)), slog.Any("err", err))
	panic(http.ErrAbortHandler)
}

func writeHead(w http.ResponseWriter, resp *Response) {
	header := w.Header()
	maps.Copy(header, resp.Header)
	disarm(header)
	if resp.ContentLength >= 0 {
		header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	if _, set := header["Content-Type"]; !set {
		header["Content-Type"] = nil // or net/http would guess one, and the answer is the target's own
	}
	w.WriteHeader(resp.Status)
}
