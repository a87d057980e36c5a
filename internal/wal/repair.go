package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// An Examine looks at what a log holds with the eyes of its owner. It calls read, which hands the content over once more
// each time and says whether a part of it is lost. An error ends the repair: the owner would not start with the log.
type Examine func(read func(Replay) (lossy bool, err error)) (Content, error)

// Content is what an [Examine] finds.
type Content struct {
	// Contradiction says that the log cannot be all that there was, although no batch is missing; nil if it can.
	Contradiction error
	// Lost names what is lost, as far as that can be read.
	Lost []string
}

// Repair makes a damaged log one that its owner starts with: every batch that is sound is kept, in order, and so is what can
// be read of a snapshot; what is missing is noted in the log, and damaged files are set aside under another name. It owns
// the log while it runs; cfg is what Open is called with. A log that Open would read is left as it is,
// unless examine finds that it contradicts itself; nil examines nothing.
//
// It may be interrupted at any point and run again; files that an interrupted run set aside are not reported again. A disk
// that cannot be read is an error and no damage: save what it still gives away first, and repair the copy.
func Repair(ctx context.Context, cfg Config, examine Examine) (Repaired, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Repaired{}, fmt.Errorf("repairing the log: %w", err)
	}
	lock, err := own(cfg)
	if err != nil {
		return Repaired{}, fmt.Errorf("repairing the log: %w", err)
	}
	p := &repair{fs: cfg.FS, dir: cfg.Dir, cfg: cfg, examine: examine}
	err = p.run(ctx)
	if err = errors.Join(err, lock.Close()); err != nil {
		return p.report, fmt.Errorf("repairing the log: %w", err)
	}
	return p.report, nil
}

type repair struct {
	fs       FS
	dir      string
	cfg      Config
	examine  Examine
	progress *progress
	report   Repaired

	cause    string    // what was found
	resumed  bool      // an earlier run was interrupted
	manifest *manifest // nil if there is none that holds
	start    uint64    // the snapshot
	next     uint64    // the number of the batch that should follow
	lossy    bool      // something is missing, or may be
	lost     lost
	spans    spans     // of the gaps, as the owner sees them
	newest   time.Time // the time of the last that was kept
}

// lost is what a repair could not keep.
type lost struct {
	proven  bool   // it was acknowledged; otherwise it may have been
	open    bool   // there may be more than is counted
	changes uint64 // as far as they can be counted
	doubt   bool   // what is at the end may have been more
}

func (p *repair) run(ctx context.Context) error {
	if err := p.begun(); err != nil {
		return err
	}
	damage, err := p.look(ctx)
	if err != nil || damage == nil {
		return err
	}
	if p.cause == "" {
		p.cause = damage.Error()
	}
	p.report.Cause = p.cause
	// From here on files are changed, and a start waits for the end of it.
	if err := createWhole(p.fs, p.dir, repairingName, []byte(p.cause)); err != nil {
		return fmt.Errorf("noting that a repair has begun: %w", err)
	}
	inv, err := p.prepare()
	if err != nil {
		return err
	}
	if p.progress, err = newProgress(p.cfg, inv); err != nil {
		return err
	}
	if err := p.snapshots(ctx, inv); err != nil {
		return err
	}
	if err := p.segments(ctx, inv); err != nil {
		return err
	}
	return p.conclude(ctx)
}

// look reads the log as a start does, and returns what keeps its owner from starting; nil if nothing does.
func (p *repair) look(ctx context.Context) (damage, err error) {
	f, err := find(ctx, p.cfg, Replay{})
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		return err, nil
	}
	if err != nil || f.fresh() {
		return nil, err
	}
	content, err := p.content(ctx)
	if err != nil {
		return nil, err
	}
	if content.Contradiction != nil {
		p.lossy = true
		p.lost.proven, p.lost.open = true, true
		return content.Contradiction, nil
	}
	if f.walk.doubt != "" {
		loss := f.walk.doubtful()
		p.report.Doubt = &loss
	}
	if f.manifest != nil {
		p.report.Losses = unacknowledged(p.fs, p.dir, f.manifest.Losses)
	}
	return nil, nil
}

// content lets the owner look at the log.
func (p *repair) content(ctx context.Context) (Content, error) {
	if p.examine == nil {
		return Content{}, nil
	}
	return p.examine(func(replay Replay) (bool, error) {
		f, err := find(ctx, p.cfg, replay)
		if err != nil {
			return false, err
		}
		p.spans, p.newest = f.walk.spans, replay.newest()
		return (&preparation{fs: p.fs, dir: p.dir, found: f}).plan().Lossy, nil
	})
}

// prepare gives every file its place, and sets those aside that do not belong to the log.
func (p *repair) prepare() (inventory, error) {
	if err := p.relocate(); err != nil {
		return inventory{}, err
	}
	inv, err := p.resume()
	if err != nil {
		return inventory{}, err
	}
	m, err := inv.govern(p.fs, p.dir)
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		p.report.NoManifest = true
		err = p.setAsideIfThere(filepath.Join(p.dir, ManifestName))
	}
	if err != nil {
		return inventory{}, err
	}
	if m != nil {
		if known, err := p.knowsAny(m, inv); err != nil {
			return inventory{}, err
		} else if !known {
			m, p.report.NoManifest = nil, true
			if err := p.setAside(filepath.Join(p.dir, ManifestName)); err != nil {
				return inventory{}, err
			}
		}
	}
	p.manifest = m
	if m == nil {
		return inv, nil
	}
	for name, magic := range inv.names() {
		head, err := readHeader(p.fs, filepath.Join(p.dir, name), magic)
		if _, damaged := errors.AsType[*DamagedError](err); err != nil && !damaged {
			return inventory{}, err
		}
		id, _, _ := parseName(name)
		belongs := err == nil && m.knows(head) || err != nil && m.namesFile(name) || id < m.snapshot()
		if belongs {
			continue
		}
		if err := p.setAside(filepath.Join(p.dir, name)); err != nil {
			return inventory{}, err
		}
	}
	return list(p.fs, p.dir)
}

// knowsAny reports whether the manifest is that of any file, or there is none to tell.
func (p *repair) knowsAny(m *manifest, inv inventory) (bool, error) {
	sound := false
	for name, magic := range inv.names() {
		head, err := readHeader(p.fs, filepath.Join(p.dir, name), magic)
		if _, damaged := errors.AsType[*DamagedError](err); damaged {
			continue
		}
		if err != nil || m.knows(head) {
			return true, err
		}
		sound = true
	}
	return !sound, nil
}

// conclude writes the manifest of what is left, lets the owner look at it, and adds what he says of what is lost.
func (p *repair) conclude(ctx context.Context) error {
	w, err := p.written(ctx)
	if err != nil {
		return fmt.Errorf("reading what was repaired: %w", err)
	}
	p.report.Batches = w.batches - uint64(len(w.given))
	if p.resumed {
		p.report.Missing = w.given
		p.lost.open = true
	}
	p.lossy = p.lossy || w.salvaged || len(w.given) > 0
	if err := p.note(w, Content{}); err != nil {
		return err
	}
	if err := p.fs.Remove(filepath.Join(p.dir, repairingName)); err != nil {
		return fmt.Errorf("ending the repair: %w", err)
	}
	if err := p.syncDir(); err != nil {
		return err
	}
	content, err := p.content(ctx)
	if err != nil {
		return fmt.Errorf("reading what was repaired: %w", err)
	}
	if content.Contradiction != nil {
		p.lossy, p.lost.proven, p.lost.open = true, true, true
	}
	p.progress.finish()
	return p.note(w, content)
}

// note writes the manifest of what is left, with what is known of the loss.
func (p *repair) note(w *walk, content Content) error {
	m := &manifest{Segments: w.names, Lossy: p.lossy}
	if len(w.names) > 0 {
		m.End = &w.end
	}
	if w.start != 0 {
		m.Snapshot = &named{ID: w.start, Salt: w.snapshotSalt}
	}
	if p.manifest != nil {
		m.Losses = unacknowledged(p.fs, p.dir, p.manifest.Losses)
		m.Lossy = m.Lossy || p.manifest.Lossy
	}
	if p.lossy || p.lost.proven || p.lost.doubt {
		p.report.Loss = p.loss(content)
		m.Losses = append(m.Losses, *p.report.Loss)
	}
	p.report.Losses = m.Losses
	return m.write(p.fs, p.dir, p.cfg.Release)
}

// written reads what the repair has written.
func (p *repair) written(ctx context.Context) (*walk, error) {
	inv, err := list(p.fs, p.dir)
	if err != nil {
		return nil, err
	}
	w := &walk{fs: p.fs, dir: p.dir, read: p.progress.extra}
	return w, w.run(ctx, inv, p.start)
}

// loss returns what is lost.
func (p *repair) loss(content Content) *Loss {
	loss := newLoss(p.cause)
	for _, r := range p.report.Missing {
		if r.Last == 0 {
			loss.Open = true
			continue
		}
		loss.Batches += r.Last - r.First + 1
		loss.Proven = true
	}
	loss.Proven = loss.Proven || p.lost.proven
	loss.Open = loss.Open || p.lost.open
	loss.Changes, loss.Bytes = p.lost.changes, p.report.LostBytes
	loss.After, loss.Before = p.spans.extent()
	if p.lost.doubt { // at the end
		loss.Before = time.Time{}
		if len(p.spans.all) == 0 {
			loss.After = p.newest
		}
	}
	loss.Names = content.Lost
	return &loss
}

// extent returns the time that all spans are in.
func (s spans) extent() (after, before time.Time) {
	for i, one := range s.all {
		if i == 0 || one.after.Before(after) {
			after = one.after
		}
		if i == 0 || !before.IsZero() && (one.before.IsZero() || one.before.After(before)) {
			before = one.before
		}
	}
	return after, before
}

// repairingName is the file that says that a repair was begun, and why. No start reads the log while it is there.
const repairingName = "repairing"

// begun reads the cause of a repair that was interrupted.
func (p *repair) begun() error {
	text, err := readFile(p.fs, filepath.Join(p.dir, repairingName))
	if isMissing(err) {
		return nil
	}
	p.cause, p.resumed = string(text), err == nil
	return err
}

// setAsideIfThere is setAside for a file that may be missing.
func (p *repair) setAsideIfThere(path string) error {
	if _, err := readFile(p.fs, path); isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	return p.setAside(path)
}

// setAside gives a file a name that nobody reads, and that no earlier repair gave.
func (p *repair) setAside(path string) error {
	aside := path + damagedSuffix
	for n := 2; ; n++ {
		f, err := p.fs.Open(aside)
		if isMissing(err) {
			break
		}
		if err != nil {
			return fmt.Errorf("setting %q aside: %w", path, err)
		}
		f.Close() //nolint:errcheck // Nothing was written.
		aside = path + damagedSuffix + "-" + strconv.Itoa(n)
	}
	if err := p.fs.Rename(path, aside); err != nil {
		return fmt.Errorf("setting %q aside: %w", path, err)
	}
	p.report.SetAside = append(p.report.SetAside, aside)
	return p.syncDir()
}
