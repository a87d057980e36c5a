package keep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"pushrelay/internal/datadir"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"
)

// A format is the version of all that a log or a backup holds: the kinds of payloads, the marks, and the store's records. There is another one when an
// earlier release would not understand, or misread, what this one writes. A log that names none is of format 1.
//
//	1  until a release was named
//	2  the release and the format are named by a mark, before anything that they wrote
//	3  all but that mark is of proto/storage/v1
//	4  a backup has a ledger, too; no log is of this format
const (
	logFormat    = 3 // which a backup without a ledger is of as well
	backupFormat = 4
	newestFormat = backupFormat
)

// A writer is a release that writes the log, and in which format. Any release understands this much of a mark of any other.
type writer struct {
	Release string `json:"release,omitempty"`
	Format  uint64 `json:"format,omitempty"`
}

// known refuses what a newer release wrote.
func (w writer) known() error {
	if w.Format <= newestFormat {
		return nil
	}
	return &datadir.NewerError{What: "the store", Release: w.Release, Format: w.Format, Known: newestFormat}
}

// writerOf returns the writer that a mark names; the zero value if it names none.
func writerOf(text []byte) writer {
	var w writer
	if json.Unmarshal(text, &w) != nil {
		return writer{} // It is no mark, as whoever reads all of it will say.
	}
	return w
}

// self is the writer that this release is.
func self(release string) writer { return writer{Release: release, Format: logFormat} }

// selfWith is the writer that this release is of a backup with a ledger, or with none if that is nil.
func selfWith(release string, l *ledger.State) writer {
	if l == nil {
		return self(release)
	}
	return writer{Release: release, Format: backupFormat}
}

// sign notes which release writes from here on, unless that is said already.
func (d *Disk) sign(ctx context.Context, found wal.Recovery) error {
	d.mu.Lock()
	signed := d.marks.writer == self(d.cfg.Release)
	d.mu.Unlock()
	if signed {
		return nil
	}
	return d.markStart(ctx, found, func(m *marks) ([]byte, error) {
		m.writer = self(d.cfg.Release)
		return m.writer.payload()
	})
}

// payload is the mark that names the writer.
func (w writer) payload() ([]byte, error) {
	text, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encoding a mark: %w", err)
	}
	return append([]byte{writerPayload}, text...), nil
}

// checkWriters refuses a log of which a newer release wrote a part. It looks at whatever can be read, also where a part is
// damaged.
func checkWriters(ctx context.Context, cfg wal.Config) error {
	return wal.Scan(ctx, cfg, func(payload []byte) error {
		if len(payload) == 0 || payload[0] != writerPayload {
			return nil
		}
		return writerOf(payload[1:]).known()
	})
}

// written adds to an error of a payload which release wrote it, as far as that is known.
func (w writer) written(err error) error {
	if newer, ok := errors.AsType[*datadir.NewerError](err); ok {
		if newer.Release == "" {
			return &datadir.NewerError{What: newer.What, Release: w.Release, Format: newer.Format, Known: newer.Known}
		}
		return err
	}
	if err == nil || w.Release == "" {
		return err
	}
	return fmt.Errorf("%w (the release that wrote it is %s)", err, w.Release)
}
