// Package datadir is the directory in which a program keeps what must outlive it: where it is by default, and whether it can
// be used. It knows nothing of what is in it.
package datadir

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"pushrelay/internal/fileowner"
)

// Default returns the data dir of a program that was given none: what systemd has made for it, or else the fallback.
func Default(fallback string) string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return filepath.SplitList(dir)[0]
	}
	return fallback
}

// Choice says where a data dir came from.
type Choice int

// The choices.
const (
	// ByDefault means that nobody named the directory.
	ByDefault Choice = iota
	// Asked means that the flag named it: it must then be usable, and empty means memory only.
	Asked
)

// ChoiceOf returns the choice of a program whose flag was given, or was not.
func ChoiceOf(asked bool) Choice { //nolint:revive // What a flag package says is a bool.
	if asked {
		return Asked
	}
	return ByDefault
}

// Open makes sure that the data dir can be written, and returns it; empty means memory only. A default that cannot be made is
// memory only with a warning, as in a unit without a working directory, where a Pushgateway would run as well.
func Open(dir string, choice Choice, logger *slog.Logger) (string, error) {
	if dir == "" {
		logger.Warn("nothing is kept over a restart (--data.dir is empty)")
		return "", nil
	}
	err := makeWritable(dir)
	if err == nil || errors.Is(err, syscall.ENOSPC) { // on a full disk what is there is served as it is (S20)
		return dir, nil
	}
	if _, planted := errors.AsType[*fileowner.LinkError](err); planted || choice == Asked { // what somebody tampers with is not given up for nothing
		return "", fmt.Errorf("--data.dir %s: %w", dir, err)
	}
	logger.Warn("nothing is kept over a restart: the default data dir cannot be used, set --data.dir", slog.String("dir", dir), slog.Any("err", err))
	return "", nil
}

func makeWritable(dir string) error {
	if err := fileowner.CheckLinks(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := CheckLinks(dir); err != nil {
		return err
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return err
	}
	probe.Close() //nolint:errcheck // It was only to see whether it can be made.
	return os.Remove(probe.Name())
}

// CheckLinks says what is wrong with the links in a data dir, which may lead a part of it elsewhere: one that somebody else than
// root or the owner of what it leads to has made. A data dir that is not there is all right.
func CheckLinks(dir string) error {
	if err := fileowner.CheckLinks(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // Whoever needs what is in it says so.
	}
	for _, entry := range entries {
		if entry.Type()&os.ModeSymlink != 0 {
			if err := fileowner.CheckLinks(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Parts returns a data dir and what lies in it, as a program relies on it; nothing for one in memory. Where others may write to the
// data dir itself, what lies in it adds nothing.
func Parts(dir string) []fileowner.Named {
	if dir == "" {
		return nil
	}
	parts := []fileowner.Named{{Name: "--data.dir", Path: dir}}
	entries, err := os.ReadDir(dir)
	if err != nil || fileowner.Exposed(dir) != nil {
		return parts // Whoever needs what is in it says so.
	}
	for _, entry := range entries {
		parts = append(parts, fileowner.Named{Name: entry.Name() + " in --data.dir", Path: filepath.Join(dir, entry.Name())})
	}
	return parts
}
