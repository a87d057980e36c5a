package textfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/fileowner"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// concurrent is how many files are read and pushed at a time. Each holds its content.
const concurrent = 8

// racy is how long after a change a file may change again without that its time tells.
const racy = 2 * time.Second

// refusedAgain is after which time a file that was refused is tried again although it has not changed: what it was refused for, a limit or a
// setting of a relay, may have.
const refusedAgain = 10 * time.Minute

// A file is what was found out about a text file.
type file struct {
	info   fs.FileInfo // of what was read last, good or not; nil if nothing could be
	readAt time.Time
	life   lifetime.Declaration // of its directory by then
	digest change.Digest        // of the push that its content makes; zero if there can be none
	fault  error                // why the content cannot be used; nil if it can
	pushed time.Time            // when what was pushed last was modified; zero if that is not known
}

// unchanged says that the file need not be read again.
func (f *file) unchanged(now fs.FileInfo) bool {
	return f.info != nil && sameContent(f.info, now) && f.readAt.Sub(f.info.ModTime()) > racy
}

// isRefused says that the content was found to be of no use, and need not be tried again yet.
func (f *file) isRefused() bool { return f.fault != nil && time.Since(f.readAt) < refusedAgain }

// A task is a file that is looked at.
type task struct {
	dir  *os.File // the directory, open until all files were looked at
	path string
	key  grouping.Key
	life lifetime.Declaration // of the directory
	file file                 // what was known, then what is
	gone bool
	// unended says that the last line has no line feed and that the file was modified just now: somebody may still write to it.
	unended bool
	err     error // why the push was not possible at the time
	late    bool  // a push is due that was not tried, or not possible
}

// A look compares all files with what was pushed.
type look struct {
	c       *Collector
	owned   map[grouping.Key]change.Digest
	present map[grouping.Key]bool // groups whose file is there, or may be
	opened  []*os.File            // the directories
	tasks   []*task
	found   *findings
	mayPush bool // no pause is on
	failed  error
}

// look pushes what differs from what was pushed, and deletes the groups that have no file any more.
func (c *Collector) look(ctx context.Context, directories []checkedDirectory) {
	l := &look{
		c: c, owned: c.cfg.Groups.Owned(Owner), present: map[grouping.Key]bool{},
		found: &findings{directories: map[string]error{}}, mayPush: !time.Now().Before(c.pause),
	}
	for _, d := range directories {
		l.list(d)
	}
	l.run(ctx)
	for _, dir := range l.opened {
		dir.Close() //nolint:errcheck // It was only read.
	}
	l.removeOrphans(ctx, directories)
	if ctx.Err() != nil {
		return // what failed did so because everything ends
	}
	l.plan()
	c.metrics.found.Store(l.found)
}

// list finds the files of a directory.
func (l *look) list(d checkedDirectory) {
	dir, err := fileowner.OpenDir(d.path)
	var names []string
	var odd string
	if err == nil {
		l.opened = append(l.opened, dir)
		names, odd, err = list(dir)
	}
	if err != nil {
		l.keepAll(d)
	}
	if odd != "" {
		err = fmt.Errorf("%q cannot be the name of a text file: want valid UTF-8 before %s", odd, suffix)
	}
	// Too many files are most often new ones under ever new names. Those that are known go on.
	free := maxFiles
	for _, name := range names {
		if _, known := l.owned[d.key.With(NameLabel, name)]; known {
			free--
		}
	}
	for _, name := range names {
		key := d.key.With(NameLabel, name)
		l.present[key] = true
		if _, known := l.owned[key]; !known {
			if free <= 0 {
				err = fmt.Errorf("there are more than %d text files: %s and perhaps others are not looked at", maxFiles, name+suffix)
				continue
			}
			free--
		}
		t := &task{dir: dir, path: filepath.Join(d.path, name+suffix), key: key, life: d.life}
		if known := l.c.files[t.path]; known != nil {
			t.file = *known
		}
		l.tasks = append(l.tasks, t)
	}
	l.found.directories[d.path] = err
	l.c.faults.note(badDirectory, d.path, err)
}

// keepAll keeps the groups of a directory of which nothing is known.
func (l *look) keepAll(d checkedDirectory) {
	for key := range l.owned {
		if _, ok := d.fileOf(key); ok {
			l.present[key] = true
		}
	}
}

// fileOf returns the file of which a group is, if it is of one of the directory.
func (d checkedDirectory) fileOf(key grouping.Key) (path string, ok bool) {
	name, ok := key.Get(NameLabel)
	if !ok || d.key.With(NameLabel, name) != key {
		return "", false
	}
	return filepath.Join(d.path, name+suffix), true
}

// run looks at all files and takes over what is known then.
func (l *look) run(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(concurrent)
	for _, t := range l.tasks {
		group.Go(func() error {
			l.one(ctx, t)
			return nil
		})
	}
	group.Wait() //nolint:errcheck // None returns one.
	c := l.c
	c.files, c.unended = make(map[string]*file, len(l.tasks)), false
	for _, t := range l.tasks {
		if t.gone {
			continue // Its group goes with the next look: this may be a directory that was taken away just now.
		}
		c.files[t.path] = &t.file
		c.faults.note(badFile, t.path, t.file.fault)
		l.found.files = append(l.found.files, fileFound{path: t.path, fault: t.file.fault, pushed: t.file.pushed})
		l.count(t.late, t.err)
		c.unended = c.unended || t.unended
	}
}

// one looks at one file.
func (l *look) one(ctx context.Context, t *task) {
	pushed, owned := l.owned[t.key]
	if info, err := os.Stat(t.path); err == nil && t.file.unchanged(info) && t.file.life == t.life && (t.file.isRefused() || owned && pushed == t.file.digest) {
		return
	}
	before := t.file
	t.file = file{readAt: time.Now(), life: t.life, pushed: before.pushed}
	content, info, err := readWhole(t.dir, t.path, limitOf(l.c.cfg.Limits))
	t.file.info = info
	if errors.Is(err, errGone) {
		t.gone = true
		return
	}
	var r *change.Change
	if err == nil {
		if t.unended = isUnended(content) && isFresh(info, t.file.readAt); t.unended {
			t.file, t.late = before, true
			t.file.info = nil // so that it is read again
			return
		}
		r, err = l.request(t, exposition.Tidy(content))
	}
	if err != nil {
		t.file.fault = err
		return
	}
	t.file.digest = change.DigestOf(r)
	switch {
	case owned && t.file.digest == pushed:
		t.file.pushed = info.ModTime()
	case t.file.digest == before.digest && before.isRefused():
		t.file.fault = before.fault // it was refused, and would be again
	default:
		l.push(ctx, t, r)
	}
}

// isUnended says whether the last line lacks its line feed. Whoever writes a file piece by piece leaves it so in between, where half a
// number is a number.
func isUnended(content []byte) bool { return len(content) > 0 && content[len(content)-1] != '\n' }

// isFresh says whether the file was modified just before it was read. A time to come says nothing.
func isFresh(info fs.FileInfo, readAt time.Time) bool {
	age := readAt.Sub(info.ModTime())
	return age >= 0 && age <= racy
}

// request makes the push of a file's content, or says what is wrong with it. What is well formed and contradicts itself is left
// to [Groups], where a refusal sets the group's failure time. What is not well formed is described and never quoted: it may be a file with
// secrets that somebody linked into the directory, and whoever asks for the agent's status reads what is wrong.
func (l *look) request(t *task, content []byte) (*change.Change, error) {
	var parser exposition.Parser
	body, err := parser.ParseText(content, exposition.Options{Names: metric.UTF8Names, Limits: l.c.cfg.Limits})
	if _, inconsistent := errors.AsType[*exposition.InconsistentError](err); err != nil && !inconsistent {
		return nil, errors.New(exposition.Describe(err, content))
	}
	if body != nil && slices.ContainsFunc(body.Families, isMtimeFamily) {
		return nil, fmt.Errorf("metric family %s is the agent's to make: it tells when the file was modified", mtimeFamily)
	}
	life := l.c.cfg.Groups.Retraction(t.key).Then(t.life)
	return &change.Change{
		Owner: Owner, Operation: change.Replace, Key: t.key, Format: exposition.Text004,
		Body: appendMtime(content, t.path, t.file.info), At: t.pushTime(life), Life: life,
	}, nil
}

// pushTime returns the time of a push that says that of its group's life. Where anything counts from it, it is when the file was modified: another
// setting has all files pushed anew, and so has a start of an agent that keeps nothing, and none of them has shown a sign of life by that.
func (t *task) pushTime(life lifetime.Declaration) time.Time {
	now := time.Now()
	if life.IsZero() {
		return now
	}
	return now.Add(min(0, t.file.info.ModTime().Sub(now))) // and not the time itself, which the clock of the process does not know
}

func isMtimeFamily(f exposition.Family) bool { return string(f.Name) == mtimeFamily }

// push pushes the content of a file.
func (l *look) push(ctx context.Context, t *task, r *change.Change) {
	if t.late = !l.mayPush; t.late {
		return
	}
	o := l.apply(ctx, r)
	switch {
	case o.IsTaken():
		t.file.pushed = t.file.info.ModTime()
	case o.IsFinal():
		t.file.fault = o.Err()
	default:
		t.late, t.err = true, o.Err()
	}
}

// apply pushes and counts.
func (l *look) apply(ctx context.Context, c *change.Change) change.Outcome {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	o := l.c.cfg.Groups.Apply(ctx, c)
	result := "taken"
	switch {
	case o.IsTaken():
	case o.IsFinal():
		result = "refused"
	default:
		result = "unavailable"
	}
	l.c.metrics.pushes.WithLabelValues(result).Inc()
	return o
}

// count notes a push that is due.
func (l *look) count(late bool, err error) {
	if late {
		l.found.waiting++
	}
	if err != nil {
		l.failed = err
	}
}

// removeOrphans deletes the groups whose file is gone, or whose directory is not configured any more.
func (l *look) removeOrphans(ctx context.Context, directories []checkedDirectory) {
	for key := range l.owned {
		if l.present[key] || isThere(key, directories) {
			continue
		}
		if !l.mayPush {
			l.count(true, nil)
			continue
		}
		err := l.apply(ctx, &change.Change{Owner: Owner, Operation: change.Delete, Key: key, At: time.Now()}).Err()
		l.count(err != nil, err)
	}
}

// isThere asks once more for the file of a group: listing a directory may miss a name that another file takes meanwhile.
func isThere(key grouping.Key, directories []checkedDirectory) bool {
	for _, d := range directories {
		if path, ok := d.fileOf(key); ok {
			_, err := os.Lstat(path)
			return !errors.Is(err, fs.ErrNotExist)
		}
	}
	return false
}

// plan decides when pushes are tried again that were not possible.
func (l *look) plan() {
	c := l.c
	c.faults.forget(func(path string) bool {
		_, directory := l.found.directories[path]
		return directory || c.files[path] != nil
	})
	if !l.mayPush {
		return
	}
	c.faults.note(notPushed, "", l.failed)
	if l.failed == nil {
		c.retry, c.pause = 0, time.Time{}
		return
	}
	c.retry = min(max(2*c.retry, firstRetry), lastRetry)
	c.pause = time.Now().Add(c.retry)
}
