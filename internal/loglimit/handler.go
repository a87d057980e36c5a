package loglimit

import (
	"context"
	"log/slog"
)

// Handler returns a handler that bounds the lines of each message, for what logs by itself: its messages are constant.
func (l *Limiter) Handler(h slog.Handler) slog.Handler { return &handler{h, l} }

type handler struct {
	slog.Handler

	limiter *Limiter
}

// Handle hands on a line, or counts it.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	suppressed, ok := h.limiter.take(r.Message)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs returns a handler with the same bounds.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.limiter}
}

// WithGroup returns a handler with the same bounds.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.limiter}
}
