package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// snapshots finds what the log begins with: the newest snapshot that is whole, else what can be read of the newest one.
func (p *repair) snapshots(ctx context.Context, inv inventory) error {
	p.next = 1
	for _, id := range slices.Backward(inv.snapshots) {
		path := filepath.Join(p.dir, snapshotName(id))
		w := &walk{fs: p.fs, dir: p.dir, read: p.progress.extra, start: id}
		err := w.snapshot(ctx)
		if err == nil {
			p.start, p.next, p.report.Snapshot = id, w.next, path
			return p.discard(id)
		}
		if _, damaged := errors.AsType[*DamagedError](err); !damaged {
			return err
		}
		p.report.LostSnapshots = append(p.report.LostSnapshots, path)
	}
	newest := p.manifest.snapshot()
	if len(inv.snapshots) > 0 {
		newest = max(newest, inv.snapshots[len(inv.snapshots)-1])
	}
	if newest == 0 {
		return nil
	}
	if err := p.salvageSnapshot(newest); err != nil {
		return err
	}
	return p.discard(newest)
}

// discard sets the snapshots aside that cannot be read and for which another one stands.
func (p *repair) discard(chosen uint64) error {
	for _, path := range p.report.LostSnapshots {
		if path == filepath.Join(p.dir, snapshotName(chosen)) {
			continue
		}
		p.lost.proven = true
		if err := p.setAside(path); err != nil {
			return err
		}
	}
	return nil
}

// salvageSnapshot makes a snapshot of the batches that are sound, with gaps for the others. None is left of one that is
// missing.
func (p *repair) salvageSnapshot(id uint64) error {
	path := filepath.Join(p.dir, snapshotName(id))
	p.start, p.report.Snapshot = id, path
	next, err := p.first(id)
	if err != nil {
		return err
	}
	if n := p.manifest.segment(id); n != nil {
		next = n.First
	}
	r, err := openReader(p.fs, path, snapshotMagic, id)
	defer func() { r.close() }()
	_, damaged := errors.AsType[*DamagedError](err)
	missing := isMissing(err)
	if err != nil && !damaged && !missing {
		return err
	}
	if damaged {
		if _, err := r.salvage(p.manifest.snapshotNamed(id)); err != nil {
			return err
		}
	}
	head := newHeader(snapshotMagic, id, 1, salvaged)
	if r != nil {
		head.salt = r.head.salt
		head.flags |= r.head.flags & managed
	}
	file, err := createAnew(p.fs, path+repairedSuffix)
	if err != nil {
		return fmt.Errorf("creating %q: %w", path+repairedSuffix, err)
	}
	out := &rewriting{file: file, head: head}
	out.offset = headerBytes
	if r == nil {
		p.lost.proven, p.lost.open, p.lossy = true, true, true
		p.next = max(next, 1)
		out.gap(1, 1)
		out.ending(2, snapshotEnd{next: p.next})
	} else {
		err = p.copySnapshot(r, out, max(next, 1))
	}
	out.begin()
	if err = errors.Join(err, out.end()); err != nil {
		return fmt.Errorf("rewriting %q: %w", path, err)
	}
	if missing {
		return p.replace(path)
	}
	r.close()
	if err := p.syncDir(); err != nil {
		return err
	}
	if err := p.setAside(path); err != nil {
		return err
	}
	return p.replace(path)
}

// copySnapshot copies what is sound of a snapshot. If its end is lost, the batch that follows it is next.
func (p *repair) copySnapshot(r *reader, out *rewriting, next uint64) error {
	end := snapshotEnd{next: next}
	number, kept, ended := uint64(1), int64(0), false
	lacks := func(until uint64) {
		if until > number {
			out.gap(number, until-1)
			number = until
			p.lost.proven, p.lossy = true, true
		}
	}
	r.offset = headerBytes
	_, err := r.sound(p.uncounted, func(b batch) error {
		if ended || b.number < number {
			return nil
		}
		lacks(b.number)
		kept += b.size()
		if b.kind == ending {
			end.next, ended = decodeEnd(b.body).next, true
			return nil
		}
		out.batch(b.number, b.kind, b.count, b.body)
		if b.kind == payloads {
			end.payloads += uint64(b.count)
			end.bytes += uint64(len(b.body) - b.count*lengthBytes)
		}
		number = b.through() + 1
		return out.err
	})
	lostBytes := max(0, r.size-headerBytes-kept)
	if !ended {
		if lostBytes > batchHeaderBytes+24 { // more than an end
			p.lost.proven = true
		}
		p.lost.open, p.lost.doubt, p.lossy = true, true, true
		out.gap(number, number)
		number++
	}
	if !p.lossy {
		out.head.flags &^= salvaged // Only the header was lost.
	}
	out.ending(number, end)
	p.next = end.next
	p.report.LostBytes += lostBytes
	return err
}

// sound calls f with every sound batch from the current offset on, and lost with every place where there is something else.
// It is true if there is nothing else.
func (r *reader) sound(lost func(r *reader, offset int64) error, f func(batch) error) (whole bool, err error) {
	whole = true
	for {
		b, err := r.next()
		switch wrong, isFault := errors.AsType[*fault](err); {
		case errors.Is(err, io.EOF):
			return whole, nil
		case isFault:
			whole = false
			if err := lost(r, wrong.offset); err != nil {
				return false, err
			}
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
