package wal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// segment keeps a segment that is sound, and rewrites another. Batches from limit on do not belong there, those before
// following should.
func (p *repair) segment(id, limit, following uint64, last bool) error {
	r, err := openReader(p.fs, filepath.Join(p.dir, segmentName(id)), segmentMagic, id)
	defer func() { r.close() }()
	headless := false
	if _, damaged := errors.AsType[*DamagedError](err); damaged {
		headless = true
		readable, err := r.salvage()
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
	}
	r.observe(p.progress.extra)
	next, sound, err := p.inspect(r, limit)
	if err != nil {
		return err
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
		p.report.Missing = append(p.report.Missing, Range{First: p.next})
	}
	return err
}

// inspect reports whether the segment can stay, and what then follows.
func (p *repair) inspect(r *reader, limit uint64) (next uint64, sound bool, err error) {
	next, sound = p.next, true
	whole, err := r.sound(func(b batch) error {
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

// rewrite makes a segment of the same number out of the batches that are sound and belong here.
func (p *repair) rewrite(r *reader, limit, following uint64) error {
	rest, err := r.restEnd(headerBytes)
	if err != nil {
		return err
	}
	out, err := p.create(r.path, r.head.id)
	if err != nil {
		return err
	}
	kept := int64(0)
	r.offset = headerBytes
	_, err = r.sound(func(b batch) error {
		if b.number < p.next || b.number >= limit || b.kind == ending {
			return nil
		}
		p.fill(out, b.number)
		out.batch(b.number, b.kind, b.count, b.body)
		p.next = b.through() + 1
		kept += b.size()
		return out.err
	})
	p.fill(out, max(r.head.first, following)) // batches that only headers tell of
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

// create begins what will be a segment, under another name.
func (p *repair) create(path string, id uint64) (*rewriting, error) {
	file, err := createAnew(p.fs, path+repairedSuffix)
	if err != nil {
		return nil, fmt.Errorf("creating %q: %w", path+repairedSuffix, err)
	}
	out := &rewriting{file: file, head: newHeader(segmentMagic, id, p.next, 0)}
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

// fill notes that the batches before a number are missing, if they are.
func (p *repair) fill(out *rewriting, number uint64) {
	if number <= p.next {
		return
	}
	out.gap(p.next, number-1)
	p.report.Missing = append(p.report.Missing, Range{First: p.next, Last: number - 1})
	p.next = number
}

// sound calls f with every sound batch from the current offset on. It is true if there is nothing else.
func (r *reader) sound(f func(batch) error) (whole bool, err error) {
	whole = true
	for {
		b, err := r.next()
		switch wrong, isFault := errors.AsType[*fault](err); {
		case errors.Is(err, io.EOF):
			return whole, nil
		case isFault:
			whole = false
			b, err := r.resync(wrong.offset + 1)
			if errors.Is(err, io.EOF) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			r.offset = b.offset
		case err != nil:
			return false, err
		default:
			if err := f(b); err != nil {
				return false, err
			}
		}
	}
}
