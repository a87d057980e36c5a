package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/datadir"
	"pushrelay/internal/grouping"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// DefaultDataDir returns the data dir of an agent that was given none.
func DefaultDataDir() string { return datadir.Default("agent-data") }

// spoolDir is where the spool is in a data dir; empty for one in memory.
func spoolDir(dataDir string) string {
	if dataDir == "" {
		return ""
	}
	return filepath.Join(dataDir, "spool")
}

// RepairSpool makes a damaged spool one that an agent starts with, and says on out what was kept and what is missing.
func RepairSpool(ctx context.Context, dataDir string, out io.Writer) error {
	at, err := spoolAt(dataDir)
	if err != nil {
		return err
	}
	r, err := spool.Repair(ctx, at)
	if err != nil {
		return explainSpoolError(dataDir, err)
	}
	lines := r.Report("spool", "relay-agent acknowledge-loss --data.dir "+strconv.Quote(dataDir))
	if r.Loss != nil {
		lines = append(lines, "the next start sends again what is left, under a new journal")
	}
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// AcknowledgeLoss takes note of what the spool has lost, also while an agent runs on the data dir, and says on out what that is.
func AcknowledgeLoss(dataDir string, out io.Writer) error {
	at, err := spoolAt(dataDir)
	if err != nil {
		return err
	}
	losses, err := spool.AcknowledgeLoss(at)
	if err != nil {
		return explainSpoolError(dataDir, err)
	}
	_, err = fmt.Fprintln(out, strings.Join(wal.ReportAcknowledged(losses), "\n"))
	return err
}

// spoolAt returns where the spool of a data dir is, which must be there.
func spoolAt(dataDir string) (spool.Place, error) {
	if _, err := os.Stat(spoolDir(dataDir)); errors.Is(err, fs.ErrNotExist) {
		return spool.Place{}, fmt.Errorf("--data.dir %s holds no spool", dataDir)
	}
	return spool.Place{Dir: spoolDir(dataDir), Release: version.Version}, nil
}

// explainSpoolError adds to an error what its reader can do.
func explainSpoolError(dataDir string, err error) error {
	var locked *wal.LockedError
	var damaged *wal.DamagedError
	var newer *datadir.NewerError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("--data.dir %s: %w; nothing was changed", dataDir, newer)
	case errors.As(err, &locked):
		return fmt.Errorf("--data.dir %s is in use by another agent: %w", dataDir, locked)
	case errors.As(err, &damaged):
		return fmt.Errorf("--data.dir %s: %w; nothing was changed. To keep all that is sound and to be told what is missing: relay-agent repair --data.dir %q",
			dataDir, damaged, dataDir)
	case errors.Is(err, wal.ErrNoLocks):
		return fmt.Errorf("--data.dir %s: %w; another file system is better, and --data.no-lock does without", dataDir, err)
	default:
		return fmt.Errorf("--data.dir %s: %w", dataDir, err)
	}
}

// describeSpool returns the spool as the status tells it.
func describeSpool(st spool.Status) agentapi.Spool {
	s := agentapi.Spool{Bytes: st.Bytes, MaxBytes: st.MaxBytes, Entries: st.Entries, Journal: st.Journal.String(), Writable: st.Failure == nil}
	if !st.Oldest.IsZero() {
		s.OldestSeconds = max(0, time.Since(st.Oldest).Seconds())
	}
	if st.Failure != nil {
		s.Error = st.Failure.Error()
	}
	return s
}

// spoolContent tells what waits, for which relay, and what was lost.
func (a *Agent) spoolContent(w http.ResponseWriter, _ *http.Request) {
	content := agentapi.SpoolContent{Relays: []agentapi.SpoolRelay{}, Groups: []agentapi.SpoolGroup{}, Rejections: []agentapi.SpoolRejection{}}
	for _, r := range a.spool.Status().Relays {
		if len(r.Addresses) == 0 {
			continue // Nothing waits for a store that is gone: what it would have got, the one after it gets.
		}
		content.Relays = append(content.Relays, agentapi.SpoolRelay{Addresses: append([]string{}, r.Addresses...), StoreID: r.Store.String(), Pending: r.Pending})
	}
	for _, p := range a.spool.Pending() {
		content.Groups = append(content.Groups, agentapi.SpoolGroup{
			GroupingKey: labelsOf(p.Key), Relay: p.Relay, Changes: p.Changes, Bytes: p.Bytes, Oldest: p.Oldest.UTC(),
		})
	}
	for _, r := range a.spool.Rejections() {
		content.Rejections = append(content.Rejections, agentapi.SpoolRejection{
			At: r.At.UTC(), Relay: r.Relay, GroupingKey: labelsOf(r.Key), Operation: r.Operation.String(), PushedAt: r.PushedAt.UTC(), Reason: r.Reason,
		})
	}
	answer(w, content)
}

func labelsOf(key grouping.Key) map[string]string {
	labels := map[string]string{}
	for _, l := range key.Labels() {
		labels[l.Name] = l.Value
	}
	return labels
}

func (a *Agent) closeSpool() error {
	err := a.spool.Close()
	if errors.Is(err, wal.ErrUnwritable) {
		// Whatever was answered well is there, so that the end is an orderly one.
		a.logger.Error("the spool was closed while it could not be written: pushes that were answered with 503 may be lost", slog.Any("err", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("closing the spool: %w", err)
	}
	return nil
}
