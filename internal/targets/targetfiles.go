package targets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/fileowner"
	"pushrelay/internal/yamldoc"
)

// targetFiles reads files with targets and remembers their last good content: an unreadable file keeps its targets (T24).
// It is not safe for concurrent use.
type targetFiles struct {
	logger *slog.Logger
	good   map[string][]*StaticConfig
	failed map[string]string // the error of each file that could not be read, to log it once
	empty  map[string]string // the warning of each file that was read and has nothing in it, to log it once
}

func newTargetFiles(logger *slog.Logger) *targetFiles {
	return &targetFiles{logger: logger, good: map[string][]*StaticConfig{}, failed: map[string]string{}, empty: map[string]string{}}
}

// read returns the files of a job and the targets that they name. A file that cannot be read, that the job refuses or that
// has nothing in it counts with what it held before. Unread says why there is nothing of a file; it is empty if there is no such file.
func (f *targetFiles) read(sc *ScrapeConfig) (files []string, lists []*StaticConfig, unread string) {
	files, _ = expand(sc.FileSDConfigs)
	for _, file := range files {
		content, err := readTargetFile(file)
		if err == nil {
			_, err = sc.targets(content)
		}
		f.note(file, sc.JobName, err)
		if err == nil {
			f.noteEmpty(file, sc.JobName, content)
		} else {
			delete(f.empty, file)
		}
		if err == nil && content != nil {
			f.good[file] = content
		}
		before, read := f.good[file]
		switch {
		case read:
		case err != nil:
			unread = fmt.Sprintf("%s: %v", file, err)
		default:
			unread = fmt.Sprintf("%s: %s", file, f.empty[file])
		}
		lists = append(lists, before...)
	}
	return files, lists, unread
}

// vanished names a file that held targets, and that is not there any more although the jobs name it.
func (f *targetFiles) vanished(jobs []*job, named []string) string {
	for _, file := range slices.Sorted(maps.Keys(f.good)) {
		if len(f.good[file]) == 0 || slices.Contains(named, file) {
			continue
		}
		for _, j := range jobs {
			if j.cfg.namesFile(file) {
				return file
			}
		}
	}
	return ""
}

// namesFile reports whether the patterns of a job match a file.
func (sc *ScrapeConfig) namesFile(file string) bool {
	for _, c := range sc.FileSDConfigs {
		for _, pattern := range c.Files {
			if matches, err := filepath.Match(pattern, file); err == nil && matches {
				return true
			}
		}
	}
	return false
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

// noteEmpty logs once that there is nothing in a file that was read.
func (f *targetFiles) noteEmpty(file, job string, content []*StaticConfig) {
	before := f.empty[file]
	delete(f.empty, file)
	if content != nil {
		return
	}
	f.empty[file] = "there is nothing in it, so that what it held before stays: write [] if it has no targets"
	if before != f.empty[file] {
		f.logger.Warn("target file", slog.String("file", file), slog.String("job", job), slog.String("warning", f.empty[file]))
	}
}

// forget drops what no job names any more.
func (f *targetFiles) forget(named []string) {
	keepNamed(f.good, named)
	keepNamed(f.failed, named)
	keepNamed(f.empty, named)
}

func keepNamed[V any](files map[string]V, named []string) {
	maps.DeleteFunc(files, func(file string, _ V) bool { return !slices.Contains(named, file) })
}

// namesNothing says where a job that was just read names no targets, though it may be meant to: it was cut off, or its files
// are not there yet. It is empty for any other job.
func (sc *ScrapeConfig) namesNothing() string {
	if sc.StaticConfigs == nil && sc.FileSDConfigs == nil {
		return fmt.Sprintf("job %q has neither static_configs nor file_sd_configs", sc.JobName)
	}
	if _, unmatched := expand(sc.FileSDConfigs); len(unmatched) > 0 {
		return fmt.Sprintf("no file matches %q", unmatched[0])
	}
	return ""
}

// expand returns the files that exist, and those that are named without a pattern, sorted and once each; and the patterns that
// match no file.
func expand(configs []*FileSDConfig) (files, unmatched []string) {
	for _, c := range configs {
		for _, pattern := range c.Files {
			matches, err := filepath.Glob(pattern)
			switch {
			case err != nil || len(matches) == 0 && !hasPattern(pattern):
				matches = []string{pattern} // reading it says what is wrong
			case len(matches) == 0:
				unmatched = append(unmatched, pattern)
			}
			files = append(files, matches...)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), unmatched
}

func hasPattern(path string) bool { return strings.ContainsAny(path, "*?[") }

// readTargetFile reads a file with a list of targets, as parseTargets does.
func readTargetFile(file string) ([]*StaticConfig, error) {
	// Patterns may match what somebody else put there: a link of theirs to a file that only the agent may read would show it in the log.
	raw, err := fileowner.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading targets: %w", err)
	}
	return parseTargets(raw)
}

// parseTargets reads a list of targets, YAML or JSON, which is YAML. Nil is a text with nothing in it, not even an empty
// list. Of a text that is no such list nothing is told but the line: a pattern may match a file that holds secrets.
func parseTargets(raw []byte) ([]*StaticConfig, error) {
	if _, err := yamldoc.Parse(raw); err != nil {
		return nil, fmt.Errorf("reading targets: %w", err)
	}
	var lists []*StaticConfig
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&lists); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading targets: %s", noTargets(err))
	}
	if slices.Contains(lists, nil) {
		return nil, errors.New("reading targets: an element of the list is empty")
	}
	return lists, nil
}

// lineRE finds the line in an error of decoding.
var lineRE = regexp.MustCompile(`^line [0-9]+: `)

// noTargets says of a file that could not be decoded where it is no list of targets.
func noTargets(err error) string {
	const want = "want a list of elements with targets, a list of host:port, and perhaps labels, a mapping of names to texts, and nothing else"
	if list, ok := errors.AsType[*yaml.TypeError](err); ok && len(list.Errors) > 0 {
		return lineRE.FindString(list.Errors[0]) + want
	}
	return want
}
