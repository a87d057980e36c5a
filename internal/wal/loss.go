package wal

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Loss is something that the log lost or may have lost, and that was acknowledged or may have been. It is kept in the log
// until somebody acknowledges it; see [Acknowledge].
type Loss struct {
	// ID tells losses apart.
	ID string `json:"id"`
	// Found is when it was found.
	Found time.Time `json:"found"`
	// Proven says that what is lost had been acknowledged. Otherwise nobody knows whether it was.
	Proven bool `json:"proven"`
	// Reason says what was found, with file and place.
	Reason string `json:"reason"`
	// Batches, Changes and Bytes are how much it is, as far as that can be counted; 0 if it cannot.
	Batches uint64 `json:"batches,omitempty"`
	Changes uint64 `json:"changes,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"`
	// Open says that there may be more than was counted.
	Open bool `json:"open,omitempty"`
	// After and Before are the times of what is next to it and was kept; zero if there is nothing, or no time.
	After  time.Time `json:"after,omitzero"`
	Before time.Time `json:"before,omitzero"`
	// Names are of what is lost, where they can still be read.
	Names []string `json:"names,omitempty"`
}

// shownNames is how many names are said in one line.
const shownNames = 20

// newLoss returns a loss that is found now.
func newLoss(reason string) Loss {
	return Loss{ID: rand.Text(), Found: time.Now().UTC(), Reason: reason}
}

// doubtful is the loss of what may have been at the end of the log.
func (w *walk) doubtful() Loss {
	loss := newLoss(w.doubt)
	loss.Batches, loss.Changes, loss.Bytes, loss.Open = 0, w.doubtChanges, w.torn.end-w.torn.offset, w.torn.segment == 0
	if w.torn.segment != 0 {
		loss.Batches = 1
	}
	loss.After = w.sink.newest()
	return loss
}

// String says in one line what is lost.
func (l Loss) String() string {
	var b strings.Builder
	b.WriteString(l.Amount())
	if l.Proven {
		b.WriteString(", acknowledged")
	} else {
		b.WriteString(", which may have been acknowledged")
	}
	if !l.After.IsZero() {
		b.WriteString(", after " + l.After.UTC().Format(time.RFC3339Nano))
	}
	if !l.Before.IsZero() {
		b.WriteString(", before " + l.Before.UTC().Format(time.RFC3339Nano))
	}
	if len(l.Names) > 0 {
		b.WriteString(", of " + strings.Join(l.Names[:min(len(l.Names), shownNames)], ", "))
	}
	if more := len(l.Names) - shownNames; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// Amount says how much is lost.
func (l Loss) Amount() string {
	var parts []string
	count := func(n uint64, one, many string) {
		switch n {
		case 0:
		case 1:
			parts = append(parts, "1 "+one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	count(l.Changes, "change", "changes")
	count(l.Batches, "batch", "batches")
	count(uint64(l.Bytes), "byte", "bytes")
	switch {
	case len(parts) == 0:
		return "nobody knows how many changes"
	case l.Open:
		return strings.Join(parts, ", ") + ", and nobody knows how many more"
	default:
		return strings.Join(parts, ", ")
	}
}

// acknowledgedName is the file that says which losses were acknowledged. It is not written by the owner of the log, so that it
// can be written while the log is in use.
const acknowledgedName = "acknowledged"

// Losses returns the losses of the log that nobody has acknowledged.
func (l *Log) Losses() []Loss {
	return unacknowledged(l.cfg.FS, l.cfg.Dir, l.losses)
}

// unacknowledged returns the losses that nobody has acknowledged. If the file cannot be read that is all of them.
func unacknowledged(fsys FS, dir string, all []Loss) []Loss {
	if len(all) == 0 {
		return nil
	}
	var ids []string
	if text, err := readFile(fsys, filepath.Join(dir, acknowledgedName)); err == nil {
		json.Unmarshal(text, &ids) //nolint:errcheck,errchkjson // See above.
	}
	var open []Loss
	for _, loss := range all {
		if !slices.Contains(ids, loss.ID) {
			open = append(open, loss)
		}
	}
	return open
}

// Acknowledge notes that somebody knows of all losses of a log, also while somebody else owns it, and returns them.
func Acknowledge(cfg Config) ([]Loss, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("taking note of losses: %w", err)
	}
	m, err := readManifest(cfg.FS, cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("taking note of losses: %w", err)
	}
	if m == nil {
		return nil, nil
	}
	open := unacknowledged(cfg.FS, cfg.Dir, m.Losses)
	if len(open) == 0 {
		return nil, nil
	}
	ids := make([]string, 0, len(m.Losses))
	for _, loss := range m.Losses {
		ids = append(ids, loss.ID)
	}
	text, err := json.Marshal(ids)
	if err == nil {
		err = createWhole(cfg.FS, cfg.Dir, acknowledgedName, text)
	}
	if err != nil {
		return nil, fmt.Errorf("taking note of losses: %w", err)
	}
	return open, nil
}

// ReportAcknowledged says in lines for people which losses Acknowledge took note of.
func ReportAcknowledged(losses []Loss) []string {
	if len(losses) == 0 {
		return []string{"there is no loss that nobody has taken note of"}
	}
	var lines []string
	for _, loss := range losses {
		lines = append(lines, "acknowledged, found "+loss.Found.Format(time.RFC3339)+": "+loss.String()+" ("+loss.Reason+")")
	}
	return lines
}
