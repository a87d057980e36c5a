package mtls

import (
	"log/slog"
	"os"
	"sync"
	"time"
)

// defaultCheckInterval is short enough that a renewed certificate is in use before anybody looks, and long enough that
// a storm of reconnecting agents does not become a storm of system calls.
const defaultCheckInterval = time.Second

// Config is what a [Reloader] needs.
type Config struct {
	// Role is the end of the tunnel that the files are for. Required.
	Role Role
	// Files are read at the start and again when one of them changed. Required.
	Files Files
	// Logger is told of every change, good or bad. Nil is silence.
	Logger *slog.Logger
	// Renewal says what a person does about a certificate that ends, or has ended; it is told with the warning, and in a [*ValidityError]. Required
	// for [Reloader.Run].
	Renewal string
	// CheckInterval is the shortest time between two looks at the files. Zero is one second.
	CheckInterval time.Duration
}

// Reloader holds the current [Material] of one end and reads the files again when they changed. It is safe for
// concurrent use.
//
// It looks when it is asked, on a handshake or for a metric, and at most once per interval; [Reloader.Run] asks where
// nobody else does. There is no file notification: it misses what happens on network file systems and behind the symbolic
// links of mounted secrets, and needs a watch per directory.
type Reloader struct {
	// static after NewReloader
	role    Role
	files   Files
	log     *slog.Logger
	checks  time.Duration
	renewal string

	mu       sync.Mutex // guards all below; held while the files are read, so that a change is read once
	checked  time.Time  // when the files were last looked at
	seen     stamps     // what they looked like
	material *Material  // the last one that was good, never nil
	err      error      // why what is in the files now is not in use; nil if it is
	reloads  uint64
	failures uint64
	// warnedOfKey says that the mode of the key was told: whoever wants it that way does not want to read of it every day.
	warnedOfKey bool
}

// Status is what there is to tell about the files of one end.
type Status struct {
	// NotAfter is when the certificate in use expires.
	NotAfter time.Time
	// Reloads counts the changes that were taken over since the start, Failures those that could not be.
	Reloads, Failures uint64
	// Err is nil if all is well, else why the files as they are now are not in use, or a [*ValidityError] of the
	// certificate in use.
	Err error
}

// NewReloader reads the files. It fails where [Load] does, except for a certificate that is expired or not yet valid: an
// end whose clock is not set yet, or whose certificate ran out during a long outage, has other duties than its
// handshakes. It starts, logs it, says it in its Status, and its handshakes fail until the clock or the file is right.
func NewReloader(cfg Config) (*Reloader, error) {
	r := &Reloader{role: cfg.Role, files: cfg.Files, log: cfg.Logger, checks: cfg.CheckInterval, renewal: cfg.Renewal}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.checks <= 0 {
		r.checks = defaultCheckInterval
	}
	// The stamps are taken before the files are read: a change in between is seen as one at the next look.
	r.seen = stampsOf(r.files)
	r.checked = time.Now()
	var err error
	if r.material, err = load(r.role, r.files); err != nil {
		return nil, err
	}
	r.material.renewal = r.renewal
	if err := r.material.CheckValidity(time.Now()); err != nil {
		r.log.Warn("certificate cannot be used yet or any more", slog.Any("err", err))
	}
	r.warn()
	return r, nil
}

// warn tells of what is odd in the files that were just read. r.mu is held, or r is new.
func (r *Reloader) warn() {
	for _, warning := range r.material.Warnings() {
		r.log.Warn("certificate files", slog.String("warning", warning))
	}
	if r.warnedOfKey {
		return
	}
	if mode, exposed := ExposedKey(r.files.KeyFile); exposed {
		r.log.Warn("key can be read by others than its owner", slog.String("key_file", r.files.KeyFile), slog.String("mode", mode.String()))
		r.warnedOfKey = true
	}
}

// Material returns the material for a handshake that begins now, never nil.
func (r *Reloader) Material() *Material {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh()
	return r.material
}

// Look returns the material after a look at the files, however short ago the last one was: for whoever has just written them.
func (r *Reloader) Look() *Material {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked = time.Time{}
	r.refresh()
	return r.material
}

// NotAfter returns when the certificate in use expires.
func (r *Reloader) NotAfter() time.Time { return r.Material().NotAfter() }

// Status returns what there is to tell, for metrics and pages.
func (r *Reloader) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh()
	s := Status{NotAfter: r.material.NotAfter(), Reloads: r.reloads, Failures: r.failures, Err: r.err}
	if s.Err == nil {
		s.Err = r.material.CheckValidity(time.Now())
	}
	return s
}

// refresh reads the files if they changed, at most once per interval. What is broken is tried again at every look (half a
// pair is there while somebody copies two files; a certificate becomes valid without a change of the file), but is
// logged and counted once per change. r.mu is held.
func (r *Reloader) refresh() {
	now := time.Now()
	if now.Sub(r.checked) < r.checks {
		return
	}
	r.checked = now
	seen := stampsOf(r.files)
	changed := !seen.equal(r.seen)
	if !changed && r.err == nil {
		return
	}
	r.seen = seen

	material, err := load(r.role, r.files)
	if err == nil {
		material.renewal = r.renewal
		err = material.CheckValidity(time.Now())
	}
	if err != nil {
		r.err = err
		if changed {
			r.failures++
			r.log.Warn("changed certificate files cannot be used, keeping the previous ones", slog.Any("err", err), slog.Time("not_after", r.material.NotAfter()))
		}
		return
	}
	r.material, r.err = material, nil
	r.reloads++
	r.log.Info("certificate files reloaded", slog.String("cert_file", r.files.CertFile), slog.Time("not_after", material.NotAfter()))
	r.warn()
}

// stamps is what the certificate, key and CA files look like from outside; nil for one that cannot be seen.
type stamps [4]os.FileInfo

func stampsOf(files Files) stamps {
	return stamps{stampOf(files.CertFile), stampOf(files.KeyFile), stampOf(files.CAFile), stampOf(files.OwnCAFile)}
}

// stampOf is what a file looks like from outside; nil if it cannot be seen.
func stampOf(path string) os.FileInfo {
	stat, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return stat
}

// equal tells whether no file changed.
func (s stamps) equal(other stamps) bool {
	for i, a := range s {
		if !sameFile(a, other[i]) {
			return false
		}
	}
	return true
}

// sameFile tells whether a file did not change: same time, same size, same inode. The inode is what tells a file that was renamed
// into place, or a symbolic link that was turned, from the one before.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}
