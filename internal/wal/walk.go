package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// Range is a run of batches by their numbers, both ends included.
type Range struct{ First, Last uint64 }

// place is where something is in the log.
type place struct {
	segment     uint64
	offset, end int64
}

// walk reads a log from a snapshot on, in order, and finds out whether anything is missing.
type walk struct {
	// Static.
	fs       FS
	dir      string
	manifest *manifest // nil for a log without one
	sink     Replay    // what is nil is not called
	read     func(bytes int64)

	// What was found so far.
	start            uint64 // the snapshot; 0 for none
	next             uint64 // the number that the next batch must have
	snapshotPayloads uint64
	snapshotBytes    int64
	snapshotSalt     uint64
	batches          uint64
	payloads         uint64
	given            []Range // up by earlier repairs
	spans            spans   // when that was
	salvaged         bool    // the snapshot lacks parts
	segments         []segmentSize
	names            []named  // of these
	empty            []uint64 // segments without a batch
	last             place    // of the last batch, whatever its kind; segment 0 for none
	torn             place    // bytes that are no batch; segment 0 for none
	tornError        *DamagedError
	doubt            string // why what is missing at the end may have been acknowledged; empty if nothing speaks for it
	doubtChanges     uint64 // how many payloads that is; 0 if nobody knows
	end              logEnd
}

// segmentSize is a segment and the bytes of it that are in use.
type segmentSize struct {
	id    uint64
	bytes int64
}

// run reads the snapshot and all segments from it on. Damage is a [*DamagedError].
func (w *walk) run(ctx context.Context, inv inventory, snapshot uint64) error {
	w.start, w.next = snapshot, 1
	segments := inv.from(snapshot)
	if snapshot != 0 {
		if err := w.snapshot(ctx); err != nil {
			return err
		}
		if len(segments) == 0 || segments[0] != snapshot {
			return &DamagedError{File: filepath.Join(w.dir, segmentName(snapshot)), Reason: "the segment that follows the snapshot is missing"}
		}
	}
	for _, id := range segments {
		if err := w.segment(ctx, id); err != nil {
			return err
		}
	}
	return w.checkEnd()
}

// checkEnd checks that the log ends where the manifest says, if it does.
func (w *walk) checkEnd() error {
	if w.manifest == nil || w.manifest.End == nil || w.next == w.manifest.End.Next {
		return nil
	}
	end := w.manifest.End
	return &DamagedError{
		File: filepath.Join(w.dir, segmentName(end.Segment)), Offset: end.Offset,
		Reason: fmt.Sprintf("batches %d to %d are missing, with which the log was closed", w.next, end.Next-1),
	}
}

// snapshot reads the snapshot to its end, without which it is not whole.
func (w *walk) snapshot(ctx context.Context) error {
	path := filepath.Join(w.dir, snapshotName(w.start))
	r, err := openReader(w.fs, path, snapshotMagic, w.start)
	defer func() { r.close() }()
	if isMissing(err) {
		return &DamagedError{File: path, Reason: "the snapshot is missing"}
	}
	if err != nil {
		return err
	}
	if w.manifest.snapshot() == w.start && w.manifest.Snapshot.Salt != r.head.salt {
		return r.damaged(0, foreign)
	}
	r.observe(w.read)
	end, err := readSnapshot(ctx, r, w.sink)
	if err != nil {
		return err
	}
	w.next, w.snapshotPayloads, w.snapshotBytes = end.next, end.payloads, r.size
	w.snapshotSalt, w.salvaged = r.head.salt, r.head.flags&salvaged != 0
	return nil
}

// foreign is the reason for a file whose header is sound, and not the one that the manifest names.
const foreign = "the file does not belong to this log, or is an earlier one of that number"

// snapshotEnd is the body of the batch that a snapshot ends with.
type snapshotEnd struct {
	payloads, bytes uint64
	next            uint64 // the first batch that is not in it
}

// encodeEnd returns a batch without its header filled in.
func encodeEnd(e snapshotEnd) []byte {
	b := binary.LittleEndian.AppendUint64(emptyBatch(nil), e.payloads)
	b = binary.LittleEndian.AppendUint64(b, e.bytes)
	return binary.LittleEndian.AppendUint64(b, e.next)
}

func decodeEnd(body []byte) snapshotEnd {
	return snapshotEnd{
		payloads: binary.LittleEndian.Uint64(body),
		bytes:    binary.LittleEndian.Uint64(body[8:]),
		next:     binary.LittleEndian.Uint64(body[16:]),
	}
}

// readSnapshot calls the sink with every payload. It ends with an error unless the snapshot is whole, and then what the sink
// was called with is worth nothing.
func readSnapshot(ctx context.Context, r *reader, sink Replay) (snapshotEnd, error) {
	var count, size uint64
	for number := uint64(1); ; number++ {
		if err := ctx.Err(); err != nil {
			return snapshotEnd{}, fmt.Errorf("reading %q: %w", r.path, context.Cause(ctx))
		}
		b, err := r.next()
		if wrong, ok := errors.AsType[*fault](err); ok {
			return snapshotEnd{}, r.damaged(wrong.offset, wrong.reason)
		}
		if errors.Is(err, io.EOF) {
			return snapshotEnd{}, r.damaged(r.offset, "the snapshot has no end")
		}
		if err != nil {
			return snapshotEnd{}, err
		}
		if b.number != number || b.kind == gap && r.head.flags&salvaged == 0 {
			return snapshotEnd{}, r.damaged(b.offset, fmt.Sprintf("part %d of the snapshot is not where it belongs", number))
		}
		if b.kind == ending {
			end := decodeEnd(b.body)
			if end.payloads != count || end.bytes != size || r.offset != r.size {
				return snapshotEnd{}, r.damaged(b.offset, "the snapshot does not contain what its end says")
			}
			return end, nil
		}
		if b.kind == gap {
			number = b.through()
			sink.missing()
			continue
		}
		count += uint64(b.count)
		size += uint64(len(b.body) - b.count*lengthBytes)
		if sink.Snapshot == nil {
			continue
		}
		if err := b.each(sink.Snapshot); err != nil {
			return snapshotEnd{}, fmt.Errorf("taking the batch at offset %d of %q: %w", b.offset, r.path, err)
		}
	}
}

// segment reads one segment, which must continue where the one before ended.
func (w *walk) segment(ctx context.Context, id uint64) error {
	r, err := openReader(w.fs, filepath.Join(w.dir, segmentName(id)), segmentMagic, id)
	defer func() { r.close() }()
	if err != nil {
		return err
	}
	if n := w.manifest.segment(id); n != nil {
		if n.Salt != r.head.salt {
			return r.damaged(0, foreign)
		}
		r.filled(r.head.pattern(), n.Fill)
	}
	r.observe(w.read)
	if err := w.join(r); err != nil {
		return err
	}
	found := w.batches
	if err := w.batchesOf(ctx, r); err != nil {
		return err
	}
	if w.batches == found {
		w.empty = append(w.empty, id)
	}
	w.segments = append(w.segments, segmentSize{id: id, bytes: r.offset})
	w.names = append(w.names, nameOf(r.head, r.fill))
	if w.torn.segment == 0 || w.torn.segment == id {
		w.end = logEnd{Segment: id, Offset: r.offset, Next: w.next}
	}
	return nil
}

// batchesOf reads the batches of a segment.
func (w *walk) batchesOf(ctx context.Context, r *reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("reading %q: %w", r.path, context.Cause(ctx))
		}
		if end := w.endIn(r); end != nil && r.offset >= end.Offset {
			return w.behind(r)
		}
		b, err := r.next()
		if errors.Is(err, io.EOF) {
			return w.ended(r)
		}
		if wrong, ok := errors.AsType[*fault](err); ok {
			return w.tear(r, wrong)
		}
		if err != nil {
			return err
		}
		if err := w.accept(r, b); err != nil {
			return err
		}
	}
}

// endIn returns where the log ends, if it is known to end in that segment.
func (w *walk) endIn(r *reader) *logEnd {
	if w.manifest == nil || w.manifest.End == nil || w.manifest.End.Segment != r.head.id {
		return nil
	}
	return w.manifest.End
}

// behind looks at what follows the known end of the log: it was never a part of it, or was given up by an earlier start.
func (w *walk) behind(r *reader) error {
	end, err := r.restEnd(r.offset)
	if err != nil || end == r.offset {
		return err
	}
	w.torn = place{segment: r.head.id, offset: r.offset, end: end}
	w.tornError = r.damaged(r.offset, "the log had ended before")
	return nil
}

// open reports whether the segment is the one that was written last, and was written when its program ended.
func (w *walk) open(r *reader) bool {
	last := w.manifest.last()
	return last != nil && last.ID == r.head.id && w.manifest.End == nil
}

// ended looks at the end of a segment behind which nothing was written. What was filled ahead must be there, or else more
// may be gone with it.
func (w *walk) ended(r *reader) error {
	if !w.open(r) {
		return nil
	}
	if r.size < r.least {
		return r.tooShort(r.least)
	}
	whole, err := r.filledAhead(r.offset)
	if err == nil && !whole {
		w.doubt = fmt.Sprintf("%q at offset %d: what the segment was filled with ahead is not there behind batch %d", r.path, r.offset, w.next-1)
	}
	return err
}

// join checks that the segment may follow what was read.
//
// Its header says that everything before its first batch was durable when the segment was made. One that says less than
// was read was made and never used, because its directory could not be synced or because the snapshot that it was made
// for failed; then it is empty.
func (w *walk) join(r *reader) error {
	var mustBeEmpty string
	switch {
	case r.head.first > w.next && w.torn.segment != 0:
		w.tornError.Follows = fmt.Sprintf("segment %q begins with batch %d", r.name(), r.head.first)
		return w.tornError
	case r.head.first > w.next:
		return r.damaged(0, fmt.Sprintf("it begins with batch %d, and batches %d to %d are missing", r.head.first, w.next, r.head.first-1))
	case w.torn.segment != 0:
		mustBeEmpty = "it follows a torn tail"
	case r.head.first < w.next:
		mustBeEmpty = fmt.Sprintf("it begins with batch %d, which there is already", r.head.first)
	case r.head.flags&needsSnapshot != 0 && r.head.id != w.start:
		mustBeEmpty = "the snapshot that it continues is missing or damaged"
	default:
		return nil
	}
	end, err := r.restEnd(headerBytes)
	if err != nil {
		return err
	}
	if end == headerBytes {
		return nil
	}
	if w.torn.segment != 0 {
		w.tornError.Follows = fmt.Sprintf("segment %q is not empty", r.name())
		return w.tornError
	}
	return r.damaged(headerBytes, mustBeEmpty)
}

// accept hands on a sound batch if it is the next one.
func (w *walk) accept(r *reader, b batch) error {
	if b.number != w.next {
		return r.damaged(b.offset, fmt.Sprintf("it is batch %d, and batch %d should follow", b.number, w.next))
	}
	switch b.kind {
	case payloads:
		if w.sink.Appended != nil {
			if err := b.each(w.sink.Appended); err != nil {
				return fmt.Errorf("taking the batch at offset %d of %q: %w", b.offset, r.path, err)
			}
		}
		w.payloads += uint64(b.count)
		w.spans.follow(&w.sink)
	case gap:
		w.given = append(w.given, Range{First: b.number, Last: b.through()})
		w.spans.begin(&w.sink)
		w.sink.missing()
	default:
		return r.damaged(b.offset, "it is the end of a snapshot")
	}
	w.batches++
	w.next = b.through() + 1
	w.last = place{segment: r.head.id, offset: b.offset, end: b.end()}
	return nil
}

// tear judges bytes that are no batch. Only one batch is ever on its way to the disk, so that a torn one is
// followed by nothing (S18): a sound batch behind it shows that it was whole once, and so does an end that is known.
func (w *walk) tear(r *reader, wrong *fault) error {
	end, err := r.restEnd(wrong.offset)
	if err != nil {
		return err
	}
	damage := r.damaged(wrong.offset, fmt.Sprintf("%s (batch %d)", wrong.reason, w.next))
	if end := w.endIn(r); end != nil {
		damage.Follows = fmt.Sprintf("the log was closed after batch %d", end.Next-1)
		return damage
	}
	if w.open(r) && r.size < r.full {
		return r.tooShort(r.full)
	}
	if b, err := r.following(wrong.offset+1, w.next); err == nil {
		damage.Follows = fmt.Sprintf("batch %d follows at offset %d", b.number, b.offset)
		return damage
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	w.torn = place{segment: r.head.id, offset: wrong.offset, end: end}
	w.tornError = damage
	unfinished, err := r.unfinished(wrong.offset, w.next)
	if err != nil || unfinished {
		return err
	}
	w.doubt = damage.Error()
	if count, _, ok, err := r.claim(wrong.offset, w.next); ok || err != nil {
		w.doubtChanges = uint64(count)
		return err
	}
	return nil
}

// following returns a sound batch at the offset or behind it, of that number or a higher one.
func (r *reader) following(offset int64, number uint64) (batch, error) {
	for {
		b, err := r.resync(offset)
		if err != nil || b.number >= number {
			return b, err
		}
		offset = b.offset + 1
	}
}
