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

	"pushrelay/internal/keep"
	"pushrelay/internal/pushgatewayfile"
)

// originalSuffix is added to the name under which a Pushgateway's file is kept if not all of it could be taken over:
// the export would otherwise replace the only copy.
const originalSuffix = ".original"

// fileName is how the log knows the Pushgateway's file.
func (s *Server) fileName() (string, error) {
	name, err := filepath.Abs(s.opts.PersistenceFile)
	if err != nil {
		return "", fmt.Errorf("--persistence.file: %w", err)
	}
	return strings.ToValidUTF8(name, "\uFFFD"), nil
}

// importFile takes over what a Pushgateway has left, once in the life of the store. In memory only that is at every start,
// as a Pushgateway does.
func (s *Server) importFile(ctx context.Context) error {
	if s.opts.PersistenceFile == "" {
		return nil
	}
	name, err := s.fileName()
	if err != nil {
		return err
	}
	if s.disk != nil && s.disk.Imported(name) {
		return nil
	}
	if err := s.storeFailure(); err != nil {
		return fmt.Errorf("--persistence.file %s cannot be imported: %w", s.opts.PersistenceFile, err)
	}
	start := time.Now()
	file, err := pushgatewayfile.Read(s.opts.PersistenceFile)
	if errors.Is(err, fs.ErrNotExist) {
		s.logger.Info("nothing to import: the Pushgateway's file is not there", slog.String("file", s.opts.PersistenceFile))
		return nil
	}
	if err != nil {
		return fmt.Errorf("--persistence.file cannot be imported, and was left as it is; move it away to start without it: %w", err)
	}
	report, err := file.Import(ctx, s.store, s.progress("importing "+s.opts.PersistenceFile))
	if err != nil {
		return fmt.Errorf("--persistence.file %s cannot be imported: %w", s.opts.PersistenceFile, err)
	}
	if err := s.keepOriginal(report); err != nil {
		return err
	}
	if s.disk != nil {
		if err := s.disk.NoteImport(ctx, keep.Import{Name: name, Size: file.Size, SHA256: file.SHA256, At: time.Now().UTC()}); err != nil {
			return fmt.Errorf("--persistence.file %s cannot be imported: %w", s.opts.PersistenceFile, err)
		}
	}
	s.reportImport(report, time.Since(start))
	return nil
}

// keepOriginal gives a file of which something was left out a second name, so that no export replaces it.
func (s *Server) keepOriginal(report pushgatewayfile.Report) error {
	if len(report.LeftOut) == 0 || !s.exports() {
		return nil
	}
	err := os.Link(s.opts.PersistenceFile, s.opts.PersistenceFile+originalSuffix)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--persistence.file: keeping the original, of which not everything can be imported: %w", err)
	}
	return nil
}

// toldAtMost is how many faults of an import are logged one by one.
const toldAtMost = 20

func (s *Server) reportImport(r pushgatewayfile.Report, took time.Duration) {
	s.logger.Info("imported a Pushgateway's file", slog.String("file", s.opts.PersistenceFile), slog.Int("groups", r.Groups),
		slog.Int("families", r.Families), slog.Int("kept_groups", r.Kept), slog.Int("quarantined", len(r.Quarantined)),
		slog.Int("left_out", len(r.LeftOut)), slog.Duration("duration", took))
	for i, q := range r.Quarantined {
		if i < toldAtMost {
			s.logger.Warn("an imported family does not fit and is not exposed", slog.String("grouping_key", q.Group),
				slog.String("family", q.Family), slog.String("reason", q.Reason))
		}
	}
	for i, l := range r.LeftOut {
		if i < toldAtMost {
			s.logger.Error("the import left something out", slog.String("grouping_key", l.Group), slog.String("family", l.Family),
				slog.String("reason", l.Reason), slog.String("original", s.opts.PersistenceFile+originalSuffix))
		}
	}
}

// exports says whether the Pushgateway's file is written.
func (s *Server) exports() bool { return s.opts.PersistenceFile != "" && s.opts.PersistenceExport }

// exportOften writes the Pushgateway's file every interval, if anything has changed.
func (s *Server) exportOften(ctx context.Context) error {
	next := time.NewTicker(s.opts.PersistenceInterval)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
			s.export(ctx)
		}
	}
}

// export writes the Pushgateway's file. What fails is logged and tried again: the store itself is not concerned. It is
// called by one goroutine at a time.
func (s *Server) export(ctx context.Context) {
	position := s.store.Position()
	if s.exported != nil && *s.exported == position {
		return
	}
	written, err := s.writeFile(ctx)
	if err != nil {
		s.exportFailures.Inc()
		s.logger.Error("the Pushgateway's file was not written", slog.String("file", s.opts.PersistenceFile), slog.Any("err", err))
		return
	}
	s.exported = &position
	s.logger.Debug("wrote the Pushgateway's file", slog.String("file", s.opts.PersistenceFile), slog.Int("groups", written.Groups),
		slog.Int("families", written.Families), slog.Int("hidden", written.Hidden))
}

func (s *Server) writeFile(ctx context.Context) (pushgatewayfile.Written, error) {
	if err := s.claimFile(ctx); err != nil {
		return pushgatewayfile.Written{}, err
	}
	return pushgatewayfile.Write(s.opts.PersistenceFile, s.store.Snapshot())
}

// claimFile notes in the log, before a file is written that was not there, that it is the relay's own: an import of it at
// the next start would bring back what was deleted meanwhile.
func (s *Server) claimFile(ctx context.Context) error {
	name, err := s.fileName()
	if err != nil || s.disk == nil || s.disk.Imported(name) {
		return err
	}
	return s.disk.NoteImport(ctx, keep.Import{Name: name, At: time.Now().UTC()})
}
