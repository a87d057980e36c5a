package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultDataDir returns the data dir of a relay that was given none: beside the Pushgateway's file if it was given one,
// because that is where a Pushgateway could write.
func DefaultDataDir(persistenceFile string) string {
	if persistenceFile != "" {
		return persistenceFile + ".relay"
	}
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.SplitList(dir)[0]
	}
	return "data"
}

// openDataDir makes sure that the data dir can be written, and returns it; empty means memory only. A default that cannot
// be made is memory only with a warning, as in a unit without a working directory, where a Pushgateway would run as well.
func openDataDir(opts *Options) (string, error) {
	if opts.DataDir == "" {
		opts.Logger.Warn("nothing is kept over a restart (--data.dir is empty)")
		return "", nil
	}
	err := makeWritable(opts.DataDir)
	if err == nil || errors.Is(err, syscall.ENOSPC) { // on a full disk the store is served as it is (S20)
		return opts.DataDir, nil
	}
	if opts.DataDirAsked {
		return "", fmt.Errorf("--data.dir %s: %w", opts.DataDir, err)
	}
	opts.Logger.Warn("nothing is kept over a restart: the default data dir cannot be used, set --data.dir", slog.String("dir", opts.DataDir), slog.Any("err", err))
	return "", nil
}

func makeWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return err
	}
	probe.Close() //nolint:errcheck // It was only to see whether it can be made.
	return os.Remove(probe.Name())
}
