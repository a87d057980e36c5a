package engine

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"pushrelay/internal/loglimit"
)

// NewLogger returns what takes etcd's lines into a log, from warnings on: what it says of its ordinary life is for nobody. One message that comes again and
// again is told now and then.
func NewLogger(to *slog.Logger) *zap.Logger {
	return zap.New(&logCore{to: slog.New(loglimit.New().Handler(to.Handler()))})
}

// logCore is a zapcore.Core.
type logCore struct {
	to     *slog.Logger
	fields []zapcore.Field
}

// Enabled wants warnings and what is worse.
func (c *logCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// With returns a core that adds fields to each line.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	return &logCore{c.to, append(slices.Clip(c.fields), fields...)}
}

// Check takes the entry if it is wanted.
func (c *logCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return checked
	}
	return checked.AddCore(entry, c)
}

// Write writes one line. The worst that etcd can say ends the process by itself.
func (c *logCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.fields), fields...) {
		f.AddTo(values)
	}
	attrs := []slog.Attr{slog.String("etcd", entry.Message)}
	names := make([]string, 0, len(values.Fields))
	for name := range values.Fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		attrs = append(attrs, slog.Any(name, values.Fields[name]))
	}
	level := slog.LevelWarn
	if entry.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.to.LogAttrs(context.Background(), level, "etcd says", attrs...)
	return nil
}

// Sync has nothing to do.
func (*logCore) Sync() error { return nil }
