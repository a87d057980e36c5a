package httpserver

import (
	"context"
	"log/slog"
	"strings"

	"pushrelay/internal/yamldoc"
)

// discreet hands on what the web configuration's library and net/http log by themselves, without what errors quote of that file: it is read at
// every request and handshake, and a password that was written in the wrong place is quoted otherwise.
type discreet struct{ slog.Handler }

// Handle hands on a line with its texts concealed.
func (h *discreet) Handle(ctx context.Context, r slog.Record) error {
	told := slog.NewRecord(r.Time, r.Level, oneLine(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(oneLine(a.Value.String()))
		}
		told.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, told)
}

// WithAttrs returns a handler that is as discreet.
func (h *discreet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &discreet{h.Handler.WithAttrs(attrs)}
}

// WithGroup returns a handler that is as discreet.
func (h *discreet) WithGroup(name string) slog.Handler { return &discreet{h.Handler.WithGroup(name)} }

// oneLine returns the text of an error about the web configuration in one line, without the prefix of the library and what may be a secret.
func oneLine(text string) string {
	text = strings.ReplaceAll(yamldoc.Conceal(text), "yaml: unmarshal errors:\n  ", "")
	return strings.ReplaceAll(strings.ReplaceAll(text, "yaml: ", ""), "\n ", ";")
}
