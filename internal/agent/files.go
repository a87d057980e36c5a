package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/yamldoc"
)

// targetFiles reads files with targets and remembers their last good content: an unreadable file keeps its targets (T24).
// It is not safe for concurrent use.
type targetFiles struct {
	logger *slog.Logger
	good   map[string][]*StaticConfig
	failed map[string]string // the error of each file that could not be read, to log it once
	odd    map[string]string // the warning of each file that was read, to log it once
}

func newTargetFiles(logger *slog.Logger) *targetFiles {
	return &targetFiles{logger: logger, good: map[string][]*StaticConfig{}, failed: map[string]string{}, odd: map[string]string{}}
}

// read returns the files of a job and the targets that they name. A file that cannot be read or that the job refuses
// counts with what it held before.
func (f *targetFiles) read(sc *ScrapeConfig) (files []string, lists []*StaticConfig) {
	files = expand(sc.FileSDConfigs)
	for _, file := range files {
		content, err := readTargetFile(file)
		if err == nil {
			_, err = sc.targets(content)
		}
		f.note(file, sc.JobName, err)
		if err == nil {
			f.good[file] = content
			f.warn(file, sc.JobName, content)
		}
		lists = append(lists, f.good[file]...)
	}
	return files, lists
}

// note logs an error once, and the file's recovery.
func (f *targetFiles) note(file, job string, err error) {
	before, failing := f.failed[file]
	switch {
	case err == nil && failing:
		delete(f.failed, file)
		f.logger.Info("target file is good again", slog.String("file", file), slog.String("job", job))
	case err != nil && err.Error() != before:
		f.failed[file] = err.Error()
		f.logger.Error("target file cannot be used, its last good targets stay", slog.String("file", file), slog.String("job", job), slog.Any("err", err))
	}
}

// warn logs once what is odd in a file that was read.
func (f *targetFiles) warn(file, job string, content []*StaticConfig) {
	before := f.odd[file]
	delete(f.odd, file)
	if content != nil {
		return
	}
	f.odd[file] = "there is nothing in it, which counts as no targets: write [] if that is meant"
	if before != f.odd[file] {
		f.logger.Warn("target file", slog.String("file", file), slog.String("job", job), slog.String("warning", f.odd[file]))
	}
}

// forget drops what no job names any more.
func (f *targetFiles) forget(named []string) {
	for file := range f.good {
		if !slices.Contains(named, file) {
			delete(f.good, file)
		}
	}
	for file := range f.failed {
		if !slices.Contains(named, file) {
			delete(f.failed, file)
		}
	}
	for file := range f.odd {
		if !slices.Contains(named, file) {
			delete(f.odd, file)
		}
	}
}

// expand returns the files that exist, and those that are named without a pattern, sorted and once each.
func expand(configs []*FileSDConfig) []string {
	var files []string
	for _, c := range configs {
		for _, pattern := range c.Files {
			matches, err := filepath.Glob(pattern)
			if err != nil || len(matches) == 0 && !hasPattern(pattern) {
				matches = []string{pattern} // reading it says what is wrong
			}
			files = append(files, matches...)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

func hasPattern(path string) bool { return strings.ContainsAny(path, "*?[") }

// readTargetFile reads a list of targets, YAML or JSON, which is YAML. Nil is a file with nothing in it, not even an empty
// list.
func readTargetFile(file string) ([]*StaticConfig, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading targets: %w", err)
	}
	if _, err := yamldoc.Parse(raw); err != nil {
		return nil, fmt.Errorf("reading targets: %w", err)
	}
	var lists []*StaticConfig
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&lists); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading targets: %w", yamldoc.Plain(err))
	}
	if slices.Contains(lists, nil) {
		return nil, errors.New("reading targets: an element of the list is empty")
	}
	return lists, nil
}
