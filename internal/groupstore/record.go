package groupstore

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/change"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/grouping"
	"pushrelay/internal/series"
)

// The records are how changes and whole stores are written: to a log, to a snapshot, to a backup. Each begins with its kind, a storagev1.PayloadKind, and
// is a message of that kind; those of earlier formats begin with the number of their format (formerrecords.go). A record that is not understood is refused,
// never taken for another (S2).

var (
	errRecord = errors.New("the record makes no sense")
	errHoles  = errors.New("a set of series has other grouping labels than its group")
	errValues = errors.New("values do not fit their series")
)

// The kinds of records, each the first byte of one.
const (
	changeKind = byte(storagev1.PayloadKind_PAYLOAD_KIND_CHANGE)
	headKind   = byte(storagev1.PayloadKind_PAYLOAD_KIND_HEAD)
	groupKind  = byte(storagev1.PayloadKind_PAYLOAD_KIND_GROUP)
	traceKind  = byte(storagev1.PayloadKind_PAYLOAD_KIND_TRACE)
	answerKind = byte(storagev1.PayloadKind_PAYLOAD_KIND_ANSWER)
	sourceKind = byte(storagev1.PayloadKind_PAYLOAD_KIND_SOURCE)
)

// isFormer says whether a record is of an earlier format.
func isFormer(record []byte) bool { return len(record) > 0 && record[0] < changeKind }

// The numbers of the fields of storage.v1.Change.
const (
	changePosition  = 1
	changeOperation = 2
	changeKey       = 3
	changeSeen      = 4
	changeNotes     = 5
	changeFamilies  = 6
	changeAnswer    = 7
)

// AppendEffect appends the record of a change at its position. It refers to nothing else, so that it means the same
// wherever it is read.
func AppendEffect(dst []byte, position uint64, e Effect) []byte {
	n := newNotesRecord(notes{failed: e.FailedAt, reason: e.Reason, hidden: e.hidden, marks: e.marks, broken: e.broken, later: e.later}, e.PushedAt)
	if !e.life.IsZero() {
		n.life = e.life.Texts()
	}
	dst = append(dst, changeKind)
	dst = appendVarintField(dst, changePosition, position)
	dst = appendVarintField(dst, changeOperation, uint64(e.Operation))
	dst = appendBytesField(dst, changeKey, e.Key.Canonical())
	dst = appendVarintField(dst, changeSeen, e.Seen)
	if size := n.size(); size > 0 {
		dst = n.append(appendLength(dst, changeNotes, size))
	}
	f := familiesRecord{parts: e.parts, pushed: e.PushedAt, later: e.later.ofFamilies(), unhidden: true}
	if size := f.size(); size > 0 {
		dst = f.append(appendLength(dst, changeFamilies, size))
	}
	if e.answer != nil {
		dst = appendBytesField(dst, changeAnswer, encodeMessage(answerMessage(e.answer)))
	}
	return dst
}

// Replay applies the record of a change that was logged; see Store.again. It keeps nothing of the record.
func (s *Store) Replay(record []byte) error { return s.replay(record, complete) }

// Mend is Replay for a log of which a part is lost: a change is applied to what the group has, even if that is not what it
// had when the change was decided, and positions may be missing. Every change carries whole families, so that what it
// leaves in the group was pushed to it.
func (s *Store) Mend(record []byte) error { return s.replay(record, lossy) }

func (s *Store) replay(record []byte, seq sequence) error {
	s.mu.RLock()
	position, c, err := decodeEffect(record, &s.sets)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	return s.again(position, c, seq)
}

// changeFields are the fields of a message of Change. They alias it, apart from the notes.
type changeFields struct {
	position, operation, seen uint64
	key                       []byte
	notes                     notes
	pushed                    int64
	families                  familiesFields
	answer                    *answer
}

func (cf *changeFields) read(b []byte) error {
	*cf = changeFields{}
	var notes, families, answer []byte
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return errRecord
		}
		var err error
		switch b = rest; f.tag {
		case changePosition<<3 | varintType:
			cf.position = f.n
		case changeOperation<<3 | varintType:
			if cf.operation = f.n; f.n > math.MaxInt32 {
				err = errUnusual // an enum has 32 bits
			}
		case changeKey<<3 | bytesType:
			cf.key = f.bytes
		case changeSeen<<3 | varintType:
			cf.seen = f.n
		case changeNotes<<3 | bytesType:
			err = f.once(&notes)
		case changeFamilies<<3 | bytesType:
			err = f.once(&families)
		case changeAnswer<<3 | bytesType:
			err = f.once(&answer)
		default:
			err = f.unknown(changeAnswer)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if cf.notes, cf.pushed, err = readNotes(notes); err != nil {
		return err
	}
	if answer != nil {
		m := &storagev1.Answer{}
		if proto.Unmarshal(answer, m) != nil {
			return errRecord
		}
		if cf.answer, err = readAnswer(m); err != nil {
			return err
		}
	}
	return cf.families.read(families)
}

// decodeEffect reads the record of a change, and keeps nothing of b. Sets that are not in the table are as
// [series.Table.Decode] returns them until the change is applied.
func decodeEffect(b []byte, sets *series.Table) (position uint64, c Effect, err error) {
	switch {
	case isFormer(b):
		return decodeFormerEffect(b, sets)
	case len(b) == 0:
		return 0, Effect{}, fmt.Errorf("decoding a change: %w", errRecord)
	case b[0] != changeKind:
		return 0, Effect{}, fmt.Errorf("decoding a change: the record is of kind %d", b[0])
	}
	var cf changeFields
	if err := readMessage(b[1:], &storagev1.Change{}, cf.read); err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change: %w", err)
	}
	n := &cf.notes
	c = Effect{
		Operation: change.Operation(min(cf.operation, 255)), Seen: cf.seen, PushedAt: cf.pushed, FailedAt: n.failed, Reason: n.reason,
		life: n.declared(), broken: n.broken, answer: cf.answer, marks: n.marks, hidden: n.hidden,
	}
	if c.Key, err = grouping.FromCanonical(string(cf.key)); err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change: %w", err)
	}
	f, err := cf.families.decode(c.PushedAt, c.Key.Labels(), sets, nil)
	c.parts, c.lines, c.valueSize, c.later = f.parts, f.lines, f.valueSize, newLater(n.later.ofNotes(), f.later)
	if err == nil && len(f.hidings) > 0 {
		err = errRecord
	}
	if err == nil {
		err = c.sound()
	}
	if err != nil {
		return 0, Effect{}, fmt.Errorf("decoding a change of group %v: %w", c.Key, err)
	}
	return cf.position, c, nil
}

// sound refuses a change that no store decides.
func (c *Effect) sound() error {
	switch c.Operation {
	case change.Replace, change.Merge:
	case change.Delete, change.Fail, change.Wipe, change.Mark, change.Forget:
		if len(c.parts) > 0 {
			return errRecord
		}
	default:
		return fmt.Errorf("%v is not understood", c.Operation)
	}
	ofNone := c.Operation == change.Wipe || c.Operation == change.Forget
	if c.Key.IsZero() != ofNone && c.Operation != change.Mark { // that of a wipe which comes again names no group
		return errRecord
	}
	if c.Operation == change.Wipe && len(c.marks) > 1 || c.Operation == change.Forget && len(c.marks) != 1 {
		return errRecord
	}
	return nil
}

// ChangeTime returns when what a change's record tells of happened, the zero time if it does not say.
func ChangeTime(record []byte) time.Time {
	if isFormer(record) {
		return formerChangeTime(record)
	}
	if len(record) == 0 || record[0] != changeKind {
		return time.Time{}
	}
	latest := int64(0)
	for of, notes := range fieldsOf(record[1:]) {
		if of != changeNotes<<3|bytesType {
			continue
		}
		for of, at := range fieldsOf(notes.bytes) {
			if of == notesPushed<<3|fixed64Type || of == notesFailed<<3|fixed64Type {
				latest = max(latest, int64(at.n))
			}
		}
	}
	return changeTime(latest)
}

func changeTime(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}
