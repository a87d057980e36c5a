package textfile

import (
	"context"
	"io/fs"
	"path/filepath"

	"github.com/fsnotify/fsnotify"

	"pushrelay/internal/fileowner"
)

const (
	Settle      = settle
	Interval    = interval
	Racy        = racy
	MtimeFamily = mtimeFamily
	MaxFiles    = maxFiles

	RefusedAgain = refusedAgain
)

var ErrChanged = errChanged

// ReadWhole reads the file of a path.
func ReadWhole(path string, limit int64) ([]byte, fs.FileInfo, error) {
	dir, err := fileowner.OpenDir(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	return readWhole(dir, path, limit)
}

// SetEvents makes what is given the only source of changes: in a bubble of testing/synctest there is no operating system.
func (c *Collector) SetEvents(events <-chan fsnotify.Event, errs <-chan error) {
	c.open = func() (*source, error) {
		return &source{
			events: events, errors: errs,
			watch: func([]checkedDirectory) error { return nil }, close: func() error { return nil },
		}, nil
	}
}

// Look looks once. It must not be used beside Run.
func (c *Collector) Look(ctx context.Context) { c.look(ctx, c.current()) }
