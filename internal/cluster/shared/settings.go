package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Kind is which file a setting is of. It is the end of its key, and the value of a metric's label.
type Kind string

// The kinds.
const (
	// ConfigFile is that of --config.file, with push rules; PolicyFile that of --policy.file.
	ConfigFile Kind = "config"
	PolicyFile Kind = "policy"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{ConfigFile, PolicyFile} }

// MaxTextBytes bounds a file.
const MaxTextBytes = 1 << 20

// A Setting is what a file of the leader says, for all relays.
type Setting struct {
	// Text is what stands in it; nil if the leader has no such file.
	Text []byte
	// By is the member whose file it is.
	By string
	// Revision is that of etcd at which it was set: the same on all relays. 0 is for what nobody has set yet.
	Revision int64
}

// SettingsConfig says what settings are shared by.
type SettingsConfig struct {
	// Client is of the cluster's etcd. Required; whoever made it closes it.
	Client *clientv3.Client
	// Prefix is what all keys of settings begin with.
	Prefix string
	// Name is this member's. Required.
	Name string
	// Leads returns the key of the leadership and the revision at which it became this member's; leads is false if it is another's. Required.
	Leads func() (key string, revision int64, leads bool)
	// Apply puts a setting to use. Recover and Run call it, one after the other, and once for each setting. After an error, as of a text that this release cannot
	// read, what was in use before is. Required.
	Apply func(Kind, Setting) error
	// Logger is required.
	Logger *slog.Logger
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
}

// Settings are those of all relays, as one knows them. They are made by [NewSettings], and are safe for concurrent use.
type Settings struct {
	cfg SettingsConfig // static after construction

	revision int64 // owned by Recover, and then by Run; up to which all is put to use

	mu      sync.Mutex          // guards what is below
	files   map[Kind]*fileState // of each kind
	changed chan struct{}       // closed and replaced when a setting is put to use
}

// A fileState is what is known of a file.
type fileState struct {
	current Setting
	refused error  // why the current setting could not be put to use; nil if it is in use
	own     []byte // what the file of this relay says; nil for none
	known   bool   // that is known
	told    bool   // it was logged that it is another one
}

// differs says whether the file of this relay is another one than that by which all go. An empty file is not the same as none.
func (f *fileState) differs() bool {
	return f.known && f.current.Revision != 0 && !same(f.own, f.current.Text)
}

func same(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// NewSettings returns settings of which nothing is known. Call Recover before anything is decided by them.
func NewSettings(cfg SettingsConfig) *Settings {
	s := &Settings{cfg: cfg, files: map[Kind]*fileState{}, changed: make(chan struct{})}
	for _, k := range Kinds() {
		s.files[k] = &fileState{}
	}
	s.register()
	return s
}

// Current returns the setting by which all relays go, as far as this one has heard.
func (s *Settings) Current(k Kind) Setting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[k].current
}

// Own notes what a file of this relay says; nil if it has none. The relay goes by it only if it leads, and calls Set.
func (s *Settings) Own(k Kind, text []byte) {
	s.note(k, text)
	s.tell(k)
}

func (s *Settings) note(k Kind, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[k].own, s.files[k].known = text, true
}

// tell logs that a file is another one, once until it is the same again.
func (s *Settings) tell(k Kind) {
	s.mu.Lock()
	f := s.files[k]
	log := f.differs() && !f.told
	f.told = f.differs()
	by := f.current.By
	s.mu.Unlock()
	if log {
		s.cfg.Logger.Warn("the file of this relay says something else than the one by which all relays go", slog.String("file", string(k)), slog.String("set_by", by))
	}
}

// Words say what is not as it should be, for people; nothing if all is.
func (s *Settings) Words() (words []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range Kinds() {
		f := s.files[k]
		if f.differs() {
			words = append(words, fmt.Sprintf("the %s file of this relay says something else than that of %s, by which all relays go", k, f.current.By))
		}
		if f.refused != nil {
			words = append(words, fmt.Sprintf("the %s file of %s, by which all relays go, cannot be put to use here: %v", k, f.current.By, f.refused))
		}
	}
	return words
}

// ErrNotLeading is why a member that does not lead sets nothing.
var ErrNotLeading = errors.New("another relay leads the cluster, and all go by its files")

// Set makes what a file of this relay says that of all relays, if this one leads, and waits until it is in use here, which is Run's to do. It is for the leader
// whenever it has read the file, and when it begins to lead. What all go by already is not set again, and no file is never set in the place of another relay's: a
// relay that was started without its policy would lift that of all.
func (s *Settings) Set(ctx context.Context, k Kind, text []byte) error {
	if len(text) > MaxTextBytes {
		return fmt.Errorf("setting the %s file for all relays: it has %d bytes, %d are allowed", k, len(text), MaxTextBytes)
	}
	s.note(k, text)
	defer s.tell(k)
	revision, err := s.write(ctx, k, text)
	if err == nil {
		err = s.await(ctx, k, revision)
	}
	if err != nil {
		return fmt.Errorf("setting the %s file for all relays: %w", k, err)
	}
	return nil
}

// await waits until what was set at that revision, or later, is in use here.
func (s *Settings) await(ctx context.Context, k Kind, revision int64) error {
	for {
		s.mu.Lock()
		current, refused, changed := s.files[k].current, s.files[k].refused, s.changed
		s.mu.Unlock()
		if current.Revision >= revision {
			return refused
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("it is set, and not in use here yet: %w", context.Cause(ctx))
		}
	}
}
