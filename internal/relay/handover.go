package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/keep"
	"pushrelay/internal/pushgatewayfile"
)

// originalSuffix is added to the name under which a Pushgateway's file is kept if not all of it could be taken over:
// the export would otherwise replace the only copy.
const originalSuffix = ".original"

// handover is a Pushgateway's file (--persistence.file): taken over once in the life of the store, and written for the way
// back. Its zero value is for none.
type handover struct {
	// static after newHandover
	file     string // empty for none
	exports  bool   // whether the file is written
	interval time.Duration
	keep     keep.Keep
	progress func(done, total int64)
	logger   *slog.Logger
	failures prometheus.Counter // nil unless the file is written

	// exported is the position of the store at the last export, nil before it; owned by exportOften, then by durability.end.
	exported *uint64
}

func newHandover(opts *Options, k keep.Keep, reg prometheus.Registerer) handover {
	if opts.PersistenceFile == "" {
		return handover{}
	}
	h := handover{
		file: opts.PersistenceFile, exports: opts.PersistenceExport, interval: opts.PersistenceInterval,
		keep: k, progress: opts.progress("importing " + opts.PersistenceFile), logger: opts.Logger,
	}
	if h.exports {
		h.failures = newExportFailures(reg)
	}
	return h
}

// name is how the log knows the Pushgateway's file.
func (h *handover) name() (string, error) {
	name, err := filepath.Abs(h.file)
	if err != nil {
		return "", fmt.Errorf("--persistence.file: %w", err)
	}
	return strings.ToValidUTF8(name, "\uFFFD"), nil
}

// take takes over what a Pushgateway has left, once in the life of the store. In memory only that is at every start,
// as a Pushgateway does.
func (h *handover) take(ctx context.Context) error {
	if h.file == "" {
		return nil
	}
	name, err := h.name()
	if err != nil {
		return err
	}
	if h.keep.Imported(name) {
		return nil
	}
	if err := h.keep.Failure(); err != nil {
		return fmt.Errorf("--persistence.file %s cannot be imported: %w", h.file, err)
	}
	start := time.Now()
	file, err := pushgatewayfile.Read(h.file)
	if errors.Is(err, fs.ErrNotExist) {
		h.logger.Info("nothing to import: the Pushgateway's file is not there", slog.String("file", h.file))
		return nil
	}
	if err != nil {
		return fmt.Errorf("--persistence.file cannot be imported, and was left as it is; move it away to start without it: %w", err)
	}
	report, err := file.Import(ctx, h.keep.Store(), h.progress)
	if err != nil {
		return fmt.Errorf("--persistence.file %s cannot be imported: %w", h.file, err)
	}
	if err := h.keepOriginal(report); err != nil {
		return err
	}
	if err := h.keep.NoteImport(ctx, keep.Import{Name: name, Size: file.Size, SHA256: file.SHA256, At: time.Now().UTC()}); err != nil {
		return fmt.Errorf("--persistence.file %s cannot be imported: %w", h.file, err)
	}
	h.report(report, time.Since(start))
	return nil
}

// keepOriginal gives a file of which something was left out a second name, so that no export replaces it.
func (h *handover) keepOriginal(report pushgatewayfile.Report) error {
	if len(report.LeftOut) == 0 || !h.exports {
		return nil
	}
	err := os.Link(h.file, h.file+originalSuffix)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--persistence.file: keeping the original, of which not everything can be imported: %w", err)
	}
	return nil
}

// toldAtMost is how many faults of an import are logged one by one.
const toldAtMost = 20

func (h *handover) report(r pushgatewayfile.Report, took time.Duration) {
	h.logger.Info("imported a Pushgateway's file", slog.String("file", h.file), slog.Int("groups", r.Groups),
		slog.Int("families", r.Families), slog.Int("kept_groups", r.Kept), slog.Int("quarantined", len(r.Quarantined)),
		slog.Int("left_out", len(r.LeftOut)), slog.Duration("duration", took))
	for i, q := range r.Quarantined {
		if i < toldAtMost {
			h.logger.Warn("an imported family does not fit and is not exposed", slog.String("grouping_key", q.Group),
				slog.String("family", q.Family), slog.String("reason", q.Reason))
		}
	}
	for i, l := range r.LeftOut {
		if i < toldAtMost {
			h.logger.Error("the import left something out", slog.String("grouping_key", l.Group), slog.String("family", l.Family),
				slog.String("reason", l.Reason), slog.String("original", h.file+originalSuffix))
		}
	}
}

// exportOften writes the Pushgateway's file every interval, if anything has changed.
func (h *handover) exportOften(ctx context.Context) error {
	next := time.NewTicker(h.interval)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			h.export(ctx)
		}
	}
}

// export writes the Pushgateway's file. What fails is logged and tried again: the store itself is not concerned. It is
// called by one goroutine at a time.
func (h *handover) export(ctx context.Context) {
	position := h.keep.Store().Position()
	if h.exported != nil && *h.exported == position {
		return
	}
	written, err := h.write(ctx)
	if err != nil {
		h.failures.Inc()
		h.logger.Error("the Pushgateway's file was not written", slog.String("file", h.file), slog.Any("err", err))
		return
	}
	h.exported = &position
	h.logger.Debug("wrote the Pushgateway's file", slog.String("file", h.file), slog.Int("groups", written.Groups),
		slog.Int("families", written.Families), slog.Int("hidden", written.Hidden))
}

func (h *handover) write(ctx context.Context) (pushgatewayfile.Written, error) {
	if err := h.claim(ctx); err != nil {
		return pushgatewayfile.Written{}, err
	}
	return pushgatewayfile.Write(h.file, h.keep.Store().Snapshot())
}

// claim notes in the log, before a file is written that was not there, that it is the relay's own: an import of it at
// the next start would bring back what was deleted meanwhile.
func (h *handover) claim(ctx context.Context) error {
	name, err := h.name()
	if err != nil || h.keep.Imported(name) {
		return err
	}
	return h.keep.NoteImport(ctx, keep.Import{Name: name, At: time.Now().UTC()})
}
