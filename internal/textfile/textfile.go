// Package textfile pushes what local scripts leave in files: every *.prom file of a directory is a group, as long as the
// file is there.
//
// It reads the files that node_exporter's textfile collector reads, so that a directory can be handed over as it is, and forgives
// what windows_exporter's forgives. It promises that a group holds one whole version of its file, the newest that was good; that a file which
// is removed takes its group with it, also while nobody looked; and that what cannot be read deletes nothing. What was
// pushed it does not remember itself: it compares the files with what [Groups] says and pushes what differs. It
// knows neither relays nor disks other than those directories. Start reading at [Collector], then at Collector.look.
package textfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/metric"
)

// Owner is the name under which the collector pushes.
const Owner = "textfile"

// NameLabel is the grouping label that holds a file's name, without its suffix.
const NameLabel = "textfile"

// agentLabel is the grouping label that relays add, unless they were told another. One that is pushed is refused.
const agentLabel = "agent"

// suffix is what the names of text files end in; all others are left alone, which is where scripts write before they
// rename.
const suffix = ".prom"

const (
	// settle is how long files may rest before they are looked at: several are often renamed at once.
	settle = 100 * time.Millisecond
	// interval is how often they are looked at although nobody said that they changed: file systems of other machines and
	// targets of symbolic links do not say so.
	interval = 15 * time.Second
	// pushTimeout is how long a file waits for relays. A push that is kept for them meanwhile counts as one.
	pushTimeout = 2 * time.Second
	// firstRetry and lastRetry bound the wait after a push that was not possible.
	firstRetry, lastRetry = time.Second, 30 * time.Second
)

// Groups is what the collector pushes through. It must be safe for concurrent use.
type Groups interface {
	// Apply takes a push of the owner. The body may be used again after it returned. What is refused for good is not tried again.
	Apply(ctx context.Context, c *change.Change) change.Outcome
	// Owned returns the groups whose newest accepted push came from that owner and was no delete, with the digest of that
	// push; see [change.DigestOf]. The map is the caller's own.
	Owned(owner string) map[grouping.Key]change.Digest
	// Retraction returns what takes back all that pushes to a group have said of its life, whoever pushed; also what was taken back before, so
	// that a push which says it changes nothing of it.
	Retraction(key grouping.Key) lifetime.Declaration
}

// Directory is a directory with text files, and what the groups of its files are called.
type Directory struct {
	// Path is the directory. Required, and unique.
	Path string `yaml:"directory"`
	// Job is the job of every group. Required.
	Job string `yaml:"job"`
	// Labels are further grouping labels.
	Labels map[string]string `yaml:"labels"`
	// Every, Grace and TTL are what each push says of its group's life, as [lifetime.Texts] has them; empty for nothing. A file that is
	// modified is a push; one that only lies there is none.
	Every string `yaml:"every"`
	Grace string `yaml:"grace"`
	TTL   string `yaml:"ttl"`
}

// nothing takes back whatever a push may have said.
var nothing = lifetime.Declaration{TTL: lifetime.ByRule, Every: lifetime.ByRule, Grace: lifetime.ByRule}

// life returns what each push of the directory says: all of it, so that a setting that is taken out of the configuration is taken back. One
// that has none says nothing.
func (d *Directory) life() (lifetime.Declaration, error) {
	said, err := lifetime.Parse(lifetime.Texts{Every: d.Every, Grace: d.Grace, TTL: d.TTL})
	if err != nil || said.IsZero() {
		return lifetime.Declaration{}, err
	}
	return nothing.Then(said), nil
}

// key returns the key of the groups less the label of the file.
func (d *Directory) key() (grouping.Key, error) {
	labels := []grouping.Label{{Name: "job", Value: d.Job}}
	for name, value := range d.Labels {
		switch {
		case name == "job":
			return grouping.Key{}, fmt.Errorf("labels: job is not a label here: write it as job: %s beside directory", value)
		case name == NameLabel:
			return grouping.Key{}, fmt.Errorf("labels: the label %s holds the name of the file and cannot be set", NameLabel)
		case name == agentLabel && value != "":
			return grouping.Key{}, fmt.Errorf("labels: %s is reserved: relays add it to what comes through an agent; leave it out", agentLabel)
		case value == "":
			return grouping.Key{}, fmt.Errorf("labels: %s has an empty value, which is as good as no label: leave it out", name)
		}
		if err := grouping.CheckLabelName(name, metric.LegacyNames); err != nil {
			return grouping.Key{}, fmt.Errorf("labels: %w", err)
		}
		labels = append(labels, grouping.Label{Name: name, Value: value})
	}
	return grouping.New(labels...)
}

// Check says what is wrong with a list of directories, and with which of them, or returns nil.
func Check(directories []Directory) (index int, err error) {
	paths, keys := map[string]bool{}, map[grouping.Key]string{}
	for i, d := range directories {
		if d.Path == "" {
			return i, errors.New("directory is missing")
		}
		if d.Job == "" {
			return i, fmt.Errorf("job is missing: it is the label job of what is in %s", d.Path)
		}
		key, err := d.key()
		if err != nil {
			return i, err
		}
		if _, err := d.life(); err != nil {
			return i, err
		}
		path := filepath.Clean(d.Path)
		if paths[path] {
			return i, fmt.Errorf("directory %s comes twice", d.Path)
		}
		if other, ok := keys[key]; ok {
			return i, fmt.Errorf("job and labels are those of directory %s: files of one name would be one group; add a label to one of the two", other)
		}
		paths[path], keys[key] = true, d.Path
	}
	return 0, nil
}

// Config is what a collector works with.
type Config struct {
	// Groups takes the pushes. Required.
	Groups Groups
	// Limits are those of pushes at the agent. A file is a body, neither compressed nor longer than maxFileBytes.
	Limits exposition.Limits
	// Registerer takes the collector's metrics. Required.
	Registerer prometheus.Registerer
	// Logger reports files that cannot be used, at a bounded rate. Required.
	Logger *slog.Logger
}

// Collector keeps the groups of text files what the files say.
type Collector struct {
	// Static after construction.
	cfg     Config
	metrics *metrics
	open    func() (*source, error)
	changed chan struct{} // other directories; one slot

	// Owned by Run.
	files  map[string]*file // by path
	faults *faults
	retry  time.Duration // the wait after the last push that was not possible; 0 if all were
	pause  time.Time     // no push before that
	// unended says that a file may be half written, so that it is looked at again soon.
	unended bool

	mu          sync.Mutex
	directories []checkedDirectory // guarded by mu; replaced whole; nil until Apply
}

// checkedDirectory is a [Directory] that was found good.
type checkedDirectory struct {
	path string
	key  grouping.Key
	life lifetime.Declaration // of every push
}

// New returns a collector that does nothing until [Collector.Apply] tells it the directories. It starts nothing.
func New(cfg Config) *Collector {
	m := newMetrics(cfg.Registerer)
	return &Collector{
		cfg: cfg, metrics: m, open: watchFiles, changed: make(chan struct{}, 1),
		files: map[string]*file{}, faults: newFaults(cfg.Logger),
	}
}

// Apply makes the directories those given, or returns an error and changes nothing. What was pushed of a directory that is
// no longer among them is deleted.
func (c *Collector) Apply(directories []Directory) error {
	if i, err := Check(directories); err != nil {
		return fmt.Errorf("textfile_configs: element %d: %w", i+1, err)
	}
	applied := make([]checkedDirectory, 0, len(directories))
	for _, d := range directories {
		key, keyErr := d.key()
		life, lifeErr := d.life()
		if err := cmp.Or(keyErr, lifeErr); err != nil {
			return err // not after Check
		}
		applied = append(applied, checkedDirectory{path: filepath.Clean(d.Path), key: key, life: life})
	}
	c.mu.Lock()
	c.directories = applied
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return nil
}

func (c *Collector) current() []checkedDirectory {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.directories
}

// FileOf returns the text file that a group is of, if it is of one of the directories.
func (c *Collector) FileOf(key grouping.Key) (path string, ok bool) {
	for _, d := range c.current() {
		if path, ok := d.fileOf(key); ok {
			return path, true
		}
	}
	return "", false
}

// Run looks at the files whenever they change, and from time to time in case nobody said so, until ctx ends. It returns
// nil.
func (c *Collector) Run(ctx context.Context) error {
	src, err := c.open()
	if err != nil {
		src = &source{watch: func([]checkedDirectory) error { return err }, close: func() error { return nil }}
	}
	defer src.close() //nolint:errcheck // Nothing is lost with a watch.
	next := time.NewTimer(0)
	defer next.Stop()
	due := time.Now()
	for {
		var wait time.Duration
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		case event := <-src.events:
			if !c.concerns(event.Name) {
				continue
			}
			wait = settle
		case err := <-src.errors: // such as more changes than the system keeps
			c.cfg.Logger.Debug("changes of text files were missed", slog.Any("err", err))
			wait = settle
		case <-next.C:
			due = c.lookAndPlan(ctx, src)
			next.Reset(time.Until(due))
			continue
		}
		if at := time.Now().Add(wait); at.Before(due) {
			due = at
			next.Reset(wait)
		}
	}
}

// concerns says whether a change of that name can make a difference: what scripts write before they rename does not.
func (c *Collector) concerns(name string) bool {
	if strings.HasSuffix(name, suffix) {
		return true
	}
	for _, d := range c.current() {
		if name == d.path {
			return true
		}
	}
	return false
}

// lookAndPlan looks at the files and returns when to look next if nothing happens.
func (c *Collector) lookAndPlan(ctx context.Context, src *source) time.Time {
	select {
	case <-c.changed: // looked at just now
	default:
	}
	directories := c.current()
	if directories == nil {
		return time.Now().Add(interval) // All groups would be deleted.
	}
	// Watched first, so that no change falls between looking and watching.
	c.faults.note(notWatched, "", src.watch(directories))
	c.look(ctx, directories)
	next := time.Now().Add(interval)
	if c.unended {
		next = time.Now().Add(racy)
	}
	if !c.pause.IsZero() && c.pause.Before(next) {
		return c.pause
	}
	return next
}
