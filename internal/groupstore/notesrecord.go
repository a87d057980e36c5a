package groupstore

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/change"
	"pushrelay/internal/lifetime"
)

// The numbers of the fields of storage.v1.GroupNotes, Life and Mark.
const (
	notesPushed     = 1
	notesFailed     = 2
	notesFailure    = 3
	notesJobFailure = 4
	notesHidden     = 5
	notesLife       = 6
	notesMarks      = 7

	lifeTTL      = 1
	lifeEvery    = 2
	lifeSchedule = 3
	lifeGrace    = 4

	markSource   = 1
	markSequence = 2
	markDigest   = 3
	markRejected = 4
	markAfter    = 5
)

// A notesRecord is a message of GroupNotes to be.
type notesRecord struct {
	notes
	pushed int64
	life   lifetime.Texts
}

func newNotesRecord(n notes, pushed int64) notesRecord {
	r := notesRecord{notes: n, pushed: pushed}
	if n.life != nil {
		r.life = n.life.Texts()
	}
	return r
}

func (r *notesRecord) size() int {
	n := sizeOfFixed(r.pushed) + sizeOfFixed(r.failed) + sizeOfBytes(len(r.reason)) + sizeOfBytes(len(r.broken)) + sizeOfBytes(len(r.hidden)) +
		sizeOfBytes(sizeOfLife(&r.life)) + len(r.later.ofNotes())
	for i := range r.marks {
		n += sizeOfMessage(r.sizeOfMark(&r.marks[i]))
	}
	return n
}

func (r *notesRecord) append(dst []byte) []byte {
	dst = appendFixedField(dst, notesPushed, r.pushed)
	dst = appendFixedField(dst, notesFailed, r.failed)
	dst = appendBytesField(dst, notesFailure, r.reason)
	dst = appendBytesField(dst, notesJobFailure, r.broken)
	dst = appendBytesField(dst, notesHidden, r.hidden)
	if size := sizeOfLife(&r.life); size > 0 {
		dst = appendLength(dst, notesLife, size)
		dst = appendBytesField(dst, lifeTTL, r.life.TTL)
		dst = appendBytesField(dst, lifeEvery, r.life.Every)
		dst = appendBytesField(dst, lifeSchedule, r.life.Schedule)
		dst = appendBytesField(dst, lifeGrace, r.life.Grace)
	}
	for i := range r.marks {
		m := &r.marks[i]
		dst = appendLength(dst, notesMarks, r.sizeOfMark(m))
		dst = appendBytesField(dst, markSource, m.source.name)
		dst = appendVarintField(dst, markSequence, m.sequence)
		dst = appendBytesField(dst, markDigest, m.digest[:])
		dst = appendVarintField(dst, markRejected, protowire.EncodeBool(m.rejected))
		dst = appendVarintField(dst, markAfter, protowire.EncodeZigZag(m.at-r.pushed))
	}
	return append(dst, r.later.ofNotes()...)
}

func sizeOfLife(t *lifetime.Texts) int {
	return sizeOfBytes(len(t.TTL)) + sizeOfBytes(len(t.Every)) + sizeOfBytes(len(t.Schedule)) + sizeOfBytes(len(t.Grace))
}

func (r *notesRecord) sizeOfMark(m *mark) int {
	return sizeOfBytes(len(m.source.name)) + sizeOfVarint(m.sequence) + sizeOfBytes(len(m.digest)) + sizeOfVarint(protowire.EncodeBool(m.rejected)) +
		sizeOfVarint(protowire.EncodeZigZag(m.at-r.pushed))
}

// readNotes reads a message of GroupNotes, with stand-ins for the sources.
func readNotes(b []byte) (n notes, pushed int64, err error) {
	var life, later []byte
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return n, 0, errRecord
		}
		switch b = rest; f.tag {
		case notesPushed<<3 | fixed64Type:
			pushed = int64(f.n)
		case notesFailed<<3 | fixed64Type:
			n.failed = int64(f.n)
		case notesFailure<<3 | bytesType:
			n.reason = string(f.bytes)
		case notesJobFailure<<3 | bytesType:
			n.broken = string(f.bytes)
		case notesHidden<<3 | bytesType:
			n.hidden = string(f.bytes)
		case notesLife<<3 | bytesType:
			err = f.once(&life)
		case notesMarks<<3 | bytesType:
			err = n.readMark(f.bytes)
		default:
			err = f.later(notesMarks, &later)
		}
		if err != nil {
			return n, 0, err
		}
	}
	if len(n.broken) > change.MaxFailedBytes {
		return n, 0, errRecord
	}
	if life != nil {
		if n.life, err = readLife(life); err != nil {
			return n, 0, err
		}
	}
	for i := range n.marks {
		n.marks[i].at += pushed
	}
	n.later = newLater(string(later), "")
	return n, pushed, nil
}

// readMark adds a mark to the notes.
func (n *notes) readMark(b []byte) error {
	m := mark{}
	var name, digest []byte
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return errRecord
		}
		switch b = rest; f.tag {
		case markSource<<3 | bytesType:
			name = f.bytes
		case markSequence<<3 | varintType:
			m.sequence = f.n
		case markDigest<<3 | bytesType:
			digest = f.bytes
		case markRejected<<3 | varintType:
			m.rejected = protowire.DecodeBool(f.n)
		case markAfter<<3 | varintType:
			m.at = protowire.DecodeZigZag(f.n)
		default:
			return f.unknown(markAfter)
		}
	}
	m.source = &source{name: string(name)}
	again := slices.ContainsFunc(n.marks, func(other mark) bool { return other.source.name == m.source.name })
	if len(name) == 0 || m.sequence == 0 || len(digest) != len(m.digest) || again || len(n.marks) == maxMarks {
		return errRecord
	}
	copy(m.digest[:], digest)
	n.marks = append(n.marks, m)
	return nil
}

func readLife(b []byte) (*lifetime.Declaration, error) {
	var t lifetime.Texts
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return nil, errRecord
		}
		switch b = rest; f.tag {
		case lifeTTL<<3 | bytesType:
			t.TTL = string(f.bytes)
		case lifeEvery<<3 | bytesType:
			t.Every = string(f.bytes)
		case lifeSchedule<<3 | bytesType:
			t.Schedule = string(f.bytes)
		case lifeGrace<<3 | bytesType:
			t.Grace = string(f.bytes)
		default:
			return nil, f.unknown(lifeGrace)
		}
	}
	life, err := lifetime.Restore(t)
	if err != nil || !life.IsKept() {
		return nil, errRecord
	}
	if life.IsZero() {
		return nil, nil
	}
	return &life, nil
}

// isZero says whether there is nothing to be noted.
func (n *notes) isZero() bool {
	return n.failed == 0 && n.reason == "" && n.hidden == "" && len(n.marks) == 0 && n.broken == "" && n.life == nil && n.later == nil
}
