package textfile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// A source says that files may have changed. Nil channels say nothing.
type source struct {
	events <-chan fsnotify.Event
	errors <-chan error
	// watch makes the watched directories those given. It is called again for those that it could not watch.
	watch func(directories []checkedDirectory) error
	close func() error
}

// watchFiles returns the source that is the operating system.
func watchFiles() (*source, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &source{
		events: watcher.Events, errors: watcher.Errors, close: watcher.Close,
		watch: func(directories []checkedDirectory) error { return watch(watcher, directories) },
	}, nil
}

func watch(watcher *fsnotify.Watcher, directories []checkedDirectory) error {
	watched := watcher.WatchList()
	var errs []error
	for _, path := range watched {
		if !slices.ContainsFunc(directories, func(d checkedDirectory) bool { return d.path == path }) {
			watcher.Remove(path) //nolint:errcheck // It may be gone already.
		}
	}
	for _, d := range directories {
		if slices.Contains(watched, d.path) {
			continue
		}
		if err := watcher.Add(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) { // that it is missing is found anyway
			errs = append(errs, fmt.Errorf("%s: %w", d.path, err))
		}
	}
	return errors.Join(errs...)
}
