package textfile

import (
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// faults logs what is wrong, once for as long as it is, and what is good again. A file that is wrong every other moment is
// told of once a minute, and a thousand files at once a few at a time. It is not safe for concurrent use.
type faults struct {
	logger *slog.Logger
	limit  *rate.Limiter
	known  map[subject]*notedFault
}

// A subject is what can be wrong: a kind, and the file or directory that it is about.
type subject struct {
	kind kind
	path string // empty for what is about all files
}

type kind int

const (
	badFile kind = iota
	badDirectory
	notWatched
	notPushed
)

type notedFault struct {
	shown    string // the error that was logged last; empty if what it was about is good again
	loggedAt time.Time
}

const (
	repeatFault = time.Minute
	everyFault  = 3 * time.Second
	manyFaults  = 20
)

func newFaults(logger *slog.Logger) *faults {
	return &faults{logger: logger, limit: rate.NewLimiter(rate.Every(everyFault), manyFaults), known: map[subject]*notedFault{}}
}

// note takes the present state of something; the path is empty for what is about all files. What is not logged yet is when
// it is noted again.
func (f *faults) note(k kind, path string, err error) {
	s := subject{k, path}
	known := f.known[s]
	switch {
	case err == nil && (known == nil || known.shown == ""):
	case err == nil:
		known.shown = ""
		f.good(s)
	case known == nil:
		f.known[s] = &notedFault{}
		f.note(k, path, err)
	case err.Error() == known.shown || !known.loggedAt.IsZero() && time.Since(known.loggedAt) < repeatFault || !f.limit.Allow():
	default:
		known.shown, known.loggedAt = err.Error(), time.Now()
		f.bad(s, err)
	}
}

func (f *faults) bad(s subject, err error) {
	path, reason := slog.String("file", s.path), slog.Any("err", err)
	switch s.kind {
	case badFile:
		f.logger.Warn("text file cannot be used, its last good content stays", path, reason)
	case badDirectory:
		f.logger.Warn("directory of text files cannot be read as it is, what was pushed stays", path, reason)
	case notWatched:
		f.logger.Warn("text files cannot be watched, they are looked at from time to time", slog.Duration("interval", interval), reason)
	case notPushed:
		f.logger.Warn("text files wait until they can be pushed", reason)
	}
}

func (f *faults) good(s subject) {
	path := slog.String("file", s.path)
	switch s.kind {
	case badFile:
		f.logger.Info("text file is good again", path)
	case badDirectory:
		f.logger.Info("directory of text files is good again", path)
	case notWatched:
		f.logger.Info("text files are watched")
	case notPushed:
		f.logger.Info("text files are pushed again")
	}
}

// forget drops files and directories that are not there any more.
func (f *faults) forget(isThere func(path string) bool) {
	for s := range f.known {
		if s.path != "" && !isThere(s.path) {
			delete(f.known, s)
		}
	}
}
