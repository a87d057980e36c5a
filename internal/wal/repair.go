package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
)

// Repaired says what [Repair] did. The zero value means that the log was not damaged.
type Repaired struct {
	// SetAside are the paths that the damaged files have now. Each is whole, as it was found.
	SetAside []string
	// Missing are the batches that were lost and given up, as numbers; a Last of 0 means that nobody knows how many there
	// were from First on. From now on [Open] reports them as given up.
	Missing []Range
	// Snapshot is the path of the snapshot that the log begins with now; empty for none.
	Snapshot string
	// LostSnapshots are the paths of snapshots that were damaged, as they were. If Snapshot is older than one of them, or
	// empty, what it contained is lost as far as it is among Missing.
	LostSnapshots []string
	// LostBytes is how much of the damaged segments could not be kept.
	LostBytes int64
	// Batches is the number of those that were kept after the snapshot.
	Batches uint64
}

// Report says in lines for people what was kept and what is missing. The argument is what the log holds.
func (r Repaired) Report(what string) []string {
	if len(r.SetAside) == 0 && len(r.Missing) == 0 {
		return []string{"the " + what + " is not damaged; nothing was changed"}
	}
	var lines []string
	for _, file := range r.SetAside {
		lines = append(lines, "set aside as it was: "+file)
	}
	for _, file := range r.LostSnapshots {
		lines = append(lines, "damaged snapshot: "+file)
	}
	if r.Snapshot != "" {
		lines = append(lines, "the "+what+" begins with the snapshot "+r.Snapshot)
	}
	lines = append(lines, fmt.Sprintf("batches kept after that: %d; bytes that could not be kept: %d", r.Batches, r.LostBytes))
	for _, missing := range r.Missing {
		if missing.Last == 0 {
			lines = append(lines, fmt.Sprintf("missing: batches from %d on, nobody knows how many", missing.First))
			continue
		}
		lines = append(lines, fmt.Sprintf("missing: batches %d to %d", missing.First, missing.Last))
	}
	if len(r.Missing) == 0 {
		lines = append(lines, "nothing that was acknowledged is missing")
	}
	return lines
}

// Repair makes a damaged log readable: every batch that is sound is kept, in order, what is missing between them is noted
// in the log, and damaged files are set aside under another name. It takes the log's ownership while it runs; cfg is what
// Open is called with. A log that Open would read is left as it is.
//
// It may be interrupted at any point and run again; files that an interrupted run set aside are not reported again. A disk
// that cannot be read is an error and no damage: save what it still gives away first, and repair the copy.
func Repair(ctx context.Context, cfg Config) (Repaired, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Repaired{}, fmt.Errorf("repairing the log: %w", err)
	}
	lock, err := own(cfg)
	if err != nil {
		return Repaired{}, fmt.Errorf("repairing the log: %w", err)
	}
	p := &repair{fs: cfg.FS, dir: cfg.Dir}
	err = p.run(ctx, cfg)
	if err = errors.Join(err, lock.Close()); err != nil {
		return p.report, fmt.Errorf("repairing the log: %w", err)
	}
	return p.report, nil
}

type repair struct {
	fs       FS
	dir      string
	progress *progress
	report   Repaired
	start    uint64 // the snapshot
	next     uint64 // the number of the batch that should follow
}

func (p *repair) run(ctx context.Context, cfg Config) error {
	inv, err := p.resume()
	if err != nil {
		return err
	}
	if err := inv.checkVersions(p.fs, p.dir); err != nil {
		return err
	}
	if p.progress, err = newProgress(cfg, inv); err != nil {
		return err
	}
	start, _, err := choose(ctx, cfg, inv, p.progress)
	if err == nil {
		err = (&walk{fs: p.fs, dir: p.dir, read: p.progress.add}).run(ctx, inv, start)
	}
	if _, damaged := errors.AsType[*DamagedError](err); !damaged {
		return err
	}
	if err := p.snapshots(ctx, inv); err != nil {
		return err
	}
	if err := p.segments(ctx, inv); err != nil {
		return err
	}
	if inv, err = list(p.fs, p.dir); err != nil {
		return err
	}
	w := &walk{fs: p.fs, dir: p.dir, read: p.progress.extra}
	if err := w.run(ctx, inv, p.start); err != nil {
		return fmt.Errorf("reading what was repaired: %w", err)
	}
	p.report.Batches = w.batches - uint64(len(w.given))
	p.progress.finish()
	return nil
}

// resume ends what an interrupted repair began: it takes the place of what was set aside already, or begins anew.
func (p *repair) resume() (inventory, error) {
	inv, err := list(p.fs, p.dir)
	if err != nil {
		return inventory{}, err
	}
	for _, id := range inv.repaired {
		path := filepath.Join(p.dir, segmentName(id))
		if slices.Contains(inv.segments, id) {
			err = p.fs.Remove(path + repairedSuffix)
		} else {
			err = p.fs.Rename(path+repairedSuffix, path)
		}
		if err != nil {
			return inventory{}, fmt.Errorf("ending an interrupted repair: %w", err)
		}
	}
	if len(inv.repaired) == 0 {
		return inv, nil
	}
	if err := p.syncDir(); err != nil {
		return inventory{}, err
	}
	return list(p.fs, p.dir)
}

// snapshots finds the newest snapshot that can be read, and sets aside the newer ones.
func (p *repair) snapshots(ctx context.Context, inv inventory) error {
	p.next = 1
	for _, id := range slices.Backward(inv.snapshots) {
		path := filepath.Join(p.dir, snapshotName(id))
		w := &walk{fs: p.fs, dir: p.dir, read: p.progress.extra, start: id}
		err := w.snapshot(ctx)
		if err == nil {
			p.start, p.next, p.report.Snapshot = id, w.next, path
			return nil
		}
		if _, damaged := errors.AsType[*DamagedError](err); !damaged {
			return err
		}
		if err := p.setAside(path); err != nil {
			return err
		}
		p.report.LostSnapshots = append(p.report.LostSnapshots, path)
	}
	return nil
}

// segments replaces every segment that does not continue what is before it.
func (p *repair) segments(ctx context.Context, inv inventory) error {
	ids := inv.from(p.start)
	if p.start != 0 && (len(ids) == 0 || ids[0] != p.start) {
		if err := p.insert(p.start, p.next); err != nil {
			return err
		}
	}
	before := p.start
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := p.bridge(before, id); err != nil {
			return err
		}
		limit, err := p.limit(ids[i+1:])
		if err != nil {
			return err
		}
		var following uint64 // what the next segment begins with, if there is no place between the two
		if i+1 < len(ids) && ids[i+1] == id+1 {
			if following, err = p.first(id + 1); err != nil {
				return err
			}
		}
		if err := p.segment(id, limit, following, i == len(ids)-1); err != nil {
			return err
		}
		before = id
	}
	return nil
}

// bridge notes what is missing before a segment, in one of its own, if a number is free.
func (p *repair) bridge(before, id uint64) error {
	first, err := p.first(id)
	if err != nil || first <= p.next || id <= before+1 {
		return err
	}
	return p.insert(before+1, first)
}

// insert makes a segment that notes that everything before a number is missing, or that nothing is.
func (p *repair) insert(id, next uint64) error {
	path := filepath.Join(p.dir, segmentName(id))
	out, err := p.create(path, id)
	if err != nil {
		return err
	}
	p.fill(out, next)
	if err := out.end(); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return p.replace(path)
}

// first returns what the header of a segment says; 0 if it is lost.
func (p *repair) first(id uint64) (uint64, error) {
	r, err := openReader(p.fs, filepath.Join(p.dir, segmentName(id)), segmentMagic, id)
	r.close()
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return r.head.first, nil
}

// limit is the number from which on batches are superseded by later segments. What follows a failed write begins with the
// number of the batch whose write failed, and that batch was never acknowledged.
func (p *repair) limit(later []uint64) (uint64, error) {
	limit := ^uint64(0)
	for _, id := range later {
		r, err := openReader(p.fs, filepath.Join(p.dir, segmentName(id)), segmentMagic, id)
		r.close()
		if _, damaged := errors.AsType[*DamagedError](err); damaged {
			continue
		}
		if err != nil {
			return 0, err
		}
		if r.head.flags&needsSnapshot != 0 {
			limit = min(limit, r.head.first)
		}
	}
	return limit, nil
}

// setAside gives a file a name that nobody reads, and that no earlier repair gave.
func (p *repair) setAside(path string) error {
	aside := path + damagedSuffix
	for n := 2; ; n++ {
		f, err := p.fs.Open(aside)
		if errors.Is(err, fs.ErrNotExist) {
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
