package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// resume ends what an interrupted repair began: a repaired file replaces one that was set aside already, or is made anew.
func (p *repair) resume() (inventory, error) {
	inv, err := list(p.fs, p.dir)
	if err != nil {
		return inventory{}, err
	}
	names, err := p.fs.ReadDir(p.dir)
	if err != nil {
		return inventory{}, fmt.Errorf("listing the log: %w", err)
	}
	resumed := false
	for _, name := range names {
		id, suffix, ok := parseName(name)
		if !ok || suffix != segmentSuffix+repairedSuffix && suffix != snapshotSuffix+repairedSuffix {
			continue
		}
		ids, path := inv.segments, filepath.Join(p.dir, segmentName(id))
		if suffix == snapshotSuffix+repairedSuffix {
			ids, path = inv.snapshots, filepath.Join(p.dir, snapshotName(id))
		}
		if slices.Contains(ids, id) {
			err = p.fs.Remove(path + repairedSuffix)
		} else {
			err = p.fs.Rename(path+repairedSuffix, path)
		}
		if err != nil {
			return inventory{}, fmt.Errorf("ending an interrupted repair: %w", err)
		}
		resumed = true
	}
	if !resumed {
		return inv, nil
	}
	if err := p.syncDir(); err != nil {
		return inventory{}, err
	}
	return list(p.fs, p.dir)
}

// segments replaces every segment that does not continue what is before it.
func (p *repair) segments(ctx context.Context, inv inventory) error {
	ids := inv.from(p.start)
	if p.start != 0 && (len(ids) == 0 || ids[0] != p.start) {
		first := p.next
		if len(ids) > 0 {
			next, err := p.first(ids[0])
			if err != nil {
				return err
			}
			first = max(first, next)
		}
		if err := p.insert(p.start, first); err != nil {
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
	return p.tail(inv, max(before, inv.highest))
}

// bridge notes what is missing before a segment, in one of its own, if a number is free.
func (p *repair) bridge(before, id uint64) error {
	first, err := p.first(id)
	if err != nil || first <= p.next || id <= before+1 {
		return err
	}
	return p.insert(before+1, first)
}

// tail notes what is missing at the end.
func (p *repair) tail(inv inventory, highest uint64) error {
	m := p.manifest
	switch {
	case m != nil && m.End != nil && p.next < m.End.Next:
		return p.insert(highest+1, m.End.Next)
	case m != nil && m.End == nil && m.last() != nil && !slices.Contains(inv.segments, m.last().ID):
		// It was the newest one, and nobody knows how much was in it.
		if m.last().First > p.next {
			if err := p.insert(m.last().ID, m.last().First); err != nil {
				return err
			}
		}
		p.unknownFrom(p.next)
	}
	return nil
}

// unknownFrom notes that nobody knows how much there was from a batch on.
func (p *repair) unknownFrom(number uint64) {
	if !p.lost.doubt {
		p.report.Missing = append(p.report.Missing, Range{First: number})
	}
	p.lost.doubt, p.lossy = true, true
}

// insert makes a segment that notes that everything before a number is missing, or that nothing is.
func (p *repair) insert(id, next uint64) error {
	path := filepath.Join(p.dir, segmentName(id))
	out, err := p.create(path, newHeader(segmentMagic, id, p.next, 0))
	if err != nil {
		return err
	}
	p.fillGap(out, next)
	if err := out.end(); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return p.replace(path)
}

// first returns what the header of a segment says, or the manifest in its place; 0 if neither does.
func (p *repair) first(id uint64) (uint64, error) {
	head, err := readHeader(p.fs, filepath.Join(p.dir, segmentName(id)), segmentMagic)
	if err == nil && head.id == id {
		return head.first, nil
	}
	if n := p.manifest.segment(id); n != nil {
		return n.First, nil
	}
	if _, damaged := errors.AsType[*DamagedError](err); damaged || err == nil || isMissing(err) {
		return 0, nil
	}
	return 0, err
}

// limit is the number from which on batches are superseded by later segments. What follows a failed write begins with the
// number of the batch whose write failed, and that batch was never acknowledged.
func (p *repair) limit(later []uint64) (uint64, error) {
	limit := ^uint64(0)
	for _, id := range later {
		head, err := readHeader(p.fs, filepath.Join(p.dir, segmentName(id)), segmentMagic)
		if _, damaged := errors.AsType[*DamagedError](err); damaged {
			continue
		}
		if err != nil {
			return 0, err
		}
		if head.id == id && head.flags&needsSnapshot != 0 {
			limit = min(limit, head.first)
		}
	}
	return limit, nil
}

// segment keeps a segment that is sound, and rewrites another. Batches from limit on do not belong there, those before
// following should.
func (p *repair) segment(id, limit, following uint64, last bool) error {
	r, err := openReader(p.fs, filepath.Join(p.dir, segmentName(id)), segmentMagic, id)
	defer func() { r.close() }()
	headless := false
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		headless = true
		readable, err := r.salvage(p.manifest.segment(id))
		if err != nil {
			return err
		}
		if !readable && last {
			if err := p.unknown(r); err != nil {
				return err
			}
		}
	} else if err != nil {
		return err
	} else if n := p.manifest.segment(id); n != nil {
		r.filled(r.head.pattern(), n.Fill)
	}
	r.observe(p.progress.extra)
	next, sound, err := p.inspect(r, limit)
	if err != nil {
		return err
	}
	if last {
		if err := p.judge(r, next); err != nil {
			return err
		}
	}
	if sound && !headless && following <= next {
		p.next = next
		return nil
	}
	return p.rewrite(r, limit, following)
}

// unknown notes that nobody knows what the last segment held, unless that is nothing.
func (p *repair) unknown(r *reader) error {
	end, err := r.restEnd(headerBytes)
	if err == nil && (end > headerBytes || r.size < headerBytes) {
		p.unknownFrom(p.next)
	}
	return err
}

// inspect reports whether the segment can stay, and what then follows. The reader is behind the last sound batch then.
func (p *repair) inspect(r *reader, limit uint64) (next uint64, sound bool, err error) {
	next, sound = p.next, true
	whole, err := r.sound(ignored, func(b batch) error {
		sound = sound && b.number == next && b.number < limit && b.kind != ending
		next = b.through() + 1
		return nil
	})
	orphan := r.head.flags&needsSnapshot != 0 && r.head.id != p.start
	if r.offset == headerBytes {
		sound = r.head.first <= p.next
	} else if orphan || r.head.first != p.next {
		sound = false
	}
	return next, sound && whole, err
}

func ignored(*reader, int64) error { return nil }

// judge finds out whether there may have been more at the end of the last segment, where the reader is.
func (p *repair) judge(r *reader, next uint64) error {
	m := p.manifest
	if m != nil && m.End != nil {
		return nil // It is known where the log ended.
	}
	end, err := r.restEnd(r.offset)
	if err != nil {
		return err
	}
	doubt := false
	if m != nil && r.size < r.full {
		doubt = true
	} else if end > r.offset {
		unfinished, err := r.unfinished(r.offset, next)
		if err != nil {
			return err
		}
		doubt = !unfinished
	} else if p.report.NoManifest {
		// Only the newest segment has a fill. If it is there, no other one is missing.
		doubt = r.head.flags&managed == 0 || r.size < r.offset+wordBytes
	} else if m != nil {
		whole, err := r.filledAhead(r.offset)
		if err != nil {
			return err
		}
		doubt = !whole
	}
	if doubt {
		p.unknownFrom(next)
	}
	return nil
}

// rewrite makes a segment of the same number out of the batches that are sound and belong here.
func (p *repair) rewrite(r *reader, limit, following uint64) error {
	rest, err := r.restEnd(headerBytes)
	if err != nil {
		return err
	}
	out, err := p.create(r.path, header{magic: segmentMagic, id: r.head.id, first: p.next, salt: r.head.salt, flags: r.head.flags & managed})
	if err != nil {
		return err
	}
	kept := int64(0)
	r.offset = headerBytes
	_, err = r.sound(p.uncounted, func(b batch) error {
		if b.number < p.next || b.number >= limit || b.kind == ending {
			return nil
		}
		p.fillGap(out, b.number)
		out.batch(b.number, b.kind, b.count, b.body)
		p.next = b.through() + 1
		kept += b.size()
		return out.err
	})
	p.fillGap(out, max(r.head.first, following)) // batches that only headers tell of
	if err = errors.Join(err, out.end()); err != nil {
		return fmt.Errorf("rewriting %q: %w", r.path, err)
	}
	p.report.LostBytes += max(0, rest-headerBytes-kept)
	r.close() // Not every system renames a file that is open.
	// From here on a crash leaves one name or the other, and each step is on the disk before the next: the new file, then
	// the old one's new name, then the new one's. resume ends what is left.
	if err := p.syncDir(); err != nil {
		return err
	}
	if err := p.setAside(r.path); err != nil {
		return err
	}
	return p.replace(r.path)
}

// uncounted counts what is lost at an offset, as far as the header of the batch tells.
func (p *repair) uncounted(r *reader, offset int64) error {
	if r.size-offset < batchHeaderBytes {
		return nil
	}
	raw, err := r.peek(offset, batchHeaderBytes)
	if err != nil {
		return err
	}
	count, _, ok, err := r.claim(offset, batchNumber(raw))
	if ok {
		p.lost.changes += uint64(count)
	} else {
		p.lost.open = true
	}
	return err
}

// create begins what will be a segment, under another name. One that had a salt keeps it, by which it belongs to the log.
func (p *repair) create(path string, head header) (*rewriting, error) {
	file, err := createAnew(p.fs, path+repairedSuffix)
	if err != nil {
		return nil, fmt.Errorf("creating %q: %w", path+repairedSuffix, err)
	}
	out := &rewriting{file: file, head: head}
	out.write(out.head.encode())
	return out, nil
}

// replace gives a finished file the name of the segment, which is free.
func (p *repair) replace(path string) error {
	if err := p.fs.Rename(path+repairedSuffix, path); err != nil {
		return fmt.Errorf("replacing %q: %w", path, err)
	}
	return p.syncDir()
}

func (p *repair) syncDir() error {
	if err := p.fs.SyncDir(p.dir); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	return nil
}

// fillGap notes that the batches before a number are missing, if they are.
func (p *repair) fillGap(out *rewriting, number uint64) {
	if number <= p.next {
		return
	}
	out.gap(p.next, number-1)
	p.report.Missing = append(p.report.Missing, Range{First: p.next, Last: number - 1})
	p.next = number
}
