package targets

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long target files may rest before they are read: a file is often written in several steps.
const settle = 100 * time.Millisecond

// watched returns the directories of the target files, and how often to read them in any case.
func (d *Discovery) watched() (directories map[string]bool, interval time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	directories, interval = map[string]bool{}, defaultRefreshInterval
	for _, j := range d.jobs {
		for _, files := range j.cfg.FileSDConfigs {
			if i := time.Duration(files.RefreshInterval); i > 0 {
				interval = min(interval, i)
			}
			for _, pattern := range files.Files {
				directories[filepath.Dir(pattern)] = true
			}
		}
	}
	return directories, interval
}

// Run reads target files again when their directories change, and from time to time in case nobody said so, until ctx ends.
func (d *Discovery) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching target files: %w", err)
	}
	defer watcher.Close() //nolint:errcheck // Nothing is lost with a watch.
	rest := time.NewTimer(settle)
	rest.Stop()
	refresh := time.NewTicker(defaultRefreshInterval)
	defer refresh.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.changed:
			directories, interval := d.watched()
			d.watch(watcher, directories)
			refresh.Reset(interval)
			rest.Reset(settle) // what changed before the directory was watched
		case <-watcher.Events:
			rest.Reset(settle)
		case err := <-watcher.Errors:
			d.logger.Warn("watching target files", slog.Any("err", err))
		case <-rest.C:
			d.refresh()
		case <-refresh.C:
			d.refresh()
		}
	}
}

// watch makes the watched directories those given. One that cannot be watched is still read from time to time.
func (d *Discovery) watch(watcher *fsnotify.Watcher, directories map[string]bool) {
	for _, watched := range watcher.WatchList() {
		if !directories[watched] {
			watcher.Remove(watched) //nolint:errcheck // It may be gone already.
		}
	}
	for directory := range directories {
		if err := watcher.Add(directory); err != nil {
			d.logger.Warn("directory of target files cannot be watched, it is read from time to time", slog.String("file", directory), slog.Any("err", err))
		}
	}
}
