package groupstore

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/grouping"
	"pushrelay/internal/series"
)

// The numbers of the fields of storage.v1.Families and Hiding.
const (
	familiesSetSizes   = 1
	familiesSets       = 2
	familiesSetNumbers = 3
	familiesFirstSet   = 4
	familiesValueSizes = 5
	familiesValues     = 6
	familiesPushed     = 7
	familiesHidden     = 8

	hidingFamily = 1
	hidingOrder  = 2
	hidingReason = 3
	hidingName   = 4
	hidingBy     = 5
)

// A familiesRecord is a message of Families to be.
type familiesRecord struct {
	parts  []part
	pushed int64 // of the group
	later  string
	// unhidden leaves out which families are hidden, as changes do: that is decided anew when they are applied again.
	unhidden bool

	// Of a snapshot: the number of each set, and the sets that are defined, which have the numbers from first on. Otherwise each is defined.
	numbers []uint64
	defined []*series.Set
	first   uint64

	// What measure has found out: the lengths of the columns.
	setSizes, sets, setNumbers, valueSizes, values, times, hidden int
}

// size returns the size of the message. It is asked for once, and before append.
func (r *familiesRecord) size() int {
	last := len(r.parts) - 1
	for i := range r.parts {
		p := &r.parts[i]
		if r.numbers == nil {
			r.sizeOfSet(p.set, i == last)
		} else {
			r.setNumbers += protowire.SizeVarint(r.numbers[i])
		}
		if i < last {
			r.valueSizes += protowire.SizeVarint(uint64(len(p.values)))
		}
		r.values += len(p.values)
		if p.pushed != r.pushed && r.times == 0 {
			r.times = r.sizeOfTimes()
		}
		if p.hidden != nil && !r.unhidden {
			r.hidden += sizeOfMessage(sizeOfHiding(i, p.hidden))
		}
	}
	for i, k := range r.defined {
		r.sizeOfSet(k, i == len(r.defined)-1)
	}
	first := 0
	if len(r.defined) > 0 {
		first = sizeOfVarint(r.first)
	}
	return sizeOfBytes(r.setSizes) + sizeOfBytes(r.sets) + sizeOfBytes(r.setNumbers) + first + sizeOfBytes(r.valueSizes) + sizeOfBytes(r.values) +
		sizeOfBytes(r.times) + r.hidden + len(r.later)
}

func (r *familiesRecord) sizeOfSet(k *series.Set, last bool) {
	r.sets += k.Size()
	if !last {
		r.setSizes += protowire.SizeVarint(uint64(k.Size()))
	}
}

func (r *familiesRecord) sizeOfTimes() (n int) {
	for i := range r.parts {
		n += protowire.SizeVarint(protowire.EncodeZigZag(r.parts[i].pushed - r.pushed))
	}
	return n
}

func (r *familiesRecord) append(dst []byte) []byte {
	if r.sets > 0 {
		dst = r.appendSets(dst)
	}
	if r.setNumbers > 0 {
		dst = appendLength(dst, familiesSetNumbers, r.setNumbers)
		for _, n := range r.numbers {
			dst = binary.AppendUvarint(dst, n)
		}
		if len(r.defined) > 0 {
			dst = appendVarintField(dst, familiesFirstSet, r.first)
		}
	}
	if r.valueSizes > 0 {
		dst = appendLength(dst, familiesValueSizes, r.valueSizes)
		for i := range r.parts[1:] {
			dst = binary.AppendUvarint(dst, uint64(len(r.parts[i].values)))
		}
	}
	if r.values > 0 {
		dst = appendLength(dst, familiesValues, r.values)
		for i := range r.parts {
			dst = append(dst, r.parts[i].values...)
		}
	}
	if r.times > 0 {
		dst = appendLength(dst, familiesPushed, r.times)
		for i := range r.parts {
			dst = binary.AppendUvarint(dst, protowire.EncodeZigZag(r.parts[i].pushed-r.pushed))
		}
	}
	if r.hidden > 0 {
		for i := range r.parts {
			if h := r.parts[i].hidden; h != nil {
				dst = appendHiding(appendLength(dst, familiesHidden, sizeOfHiding(i, h)), i, h)
			}
		}
	}
	return append(dst, r.later...)
}

// appendSets defines the sets that are to be defined.
func (r *familiesRecord) appendSets(dst []byte) []byte {
	n := len(r.defined)
	if r.numbers == nil {
		n = len(r.parts)
	}
	if r.setSizes > 0 {
		dst = appendLength(dst, familiesSetSizes, r.setSizes)
		for i := range n - 1 {
			dst = binary.AppendUvarint(dst, uint64(r.definition(i).Size()))
		}
	}
	dst = appendLength(dst, familiesSets, r.sets)
	for i := range n {
		dst = r.definition(i).AppendEncoding(dst)
	}
	return dst
}

// definition returns the set that is defined in that place.
func (r *familiesRecord) definition(i int) *series.Set {
	if r.numbers == nil {
		return r.parts[i].set
	}
	return r.defined[i]
}

func sizeOfHiding(family int, h *hiding) int {
	return sizeOfVarint(uint64(family)) + sizeOfVarint(h.order) + sizeOfBytes(len(h.reason)) + sizeOfBytes(len(h.name)) + sizeOfBytes(len(h.byKey()))
}

func appendHiding(dst []byte, family int, h *hiding) []byte {
	dst = appendVarintField(dst, hidingFamily, uint64(family))
	dst = appendVarintField(dst, hidingOrder, h.order)
	dst = appendBytesField(dst, hidingReason, h.reason)
	dst = appendBytesField(dst, hidingName, h.name)
	return appendBytesField(dst, hidingBy, h.byKey())
}

// byKey returns the canonical key of the group that must change or leave; empty for none.
func (h *hiding) byKey() string {
	if h.by == nil {
		return ""
	}
	return h.by.key.Canonical()
}

// familiesFields are the fields of a message of Families. They alias it.
type familiesFields struct {
	setSizes, setNumbers, valueSizes, times column
	sets, values                            []byte
	first                                   uint64
	hidden                                  []hidingFields
	later                                   []byte
}

// hidingFields are those of a message of Hiding.
type hidingFields struct {
	family uint64
	loadedHiding
}

func (ff *familiesFields) read(b []byte) error {
	*ff = familiesFields{}
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return errRecord
		}
		var err error
		switch b = rest; f.tag {
		case familiesSetSizes<<3 | bytesType:
			err = f.once((*[]byte)(&ff.setSizes))
		case familiesSets<<3 | bytesType:
			ff.sets = f.bytes
		case familiesSetNumbers<<3 | bytesType:
			err = f.once((*[]byte)(&ff.setNumbers))
		case familiesFirstSet<<3 | varintType:
			ff.first = f.n
		case familiesValueSizes<<3 | bytesType:
			err = f.once((*[]byte)(&ff.valueSizes))
		case familiesValues<<3 | bytesType:
			ff.values = f.bytes
		case familiesPushed<<3 | bytesType:
			err = f.once((*[]byte)(&ff.times))
		case familiesHidden<<3 | bytesType:
			err = ff.readHiding(f.bytes)
		default:
			err = f.later(familiesHidden, &ff.later)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// definitions returns how many sets are defined.
func (ff *familiesFields) definitions() int {
	if len(ff.sets) == 0 {
		return 0
	}
	return ff.setSizes.len() + 1
}

// readFamilies are the families of a record.
type readFamilies struct {
	parts     []part
	lines     int
	valueSize int
	hidings   []loadedHiding // of the parts that have one; without their groups
	lost      int            // families whose set is lost
	later     string
}

// decode returns the families of a group with these labels that was pushed at that time. What is defined in place comes from the table, as
// [series.Table.Decode] returns it; otherwise numbered finds a set by its number, nil for one that is lost. The orders of hidings are not set in them.
func (ff *familiesFields) decode(pushed int64, labels []grouping.Label, sets *series.Table, numbered func(uint64) (*series.Set, error)) (f readFamilies, err error) {
	n := ff.setNumbers.len()
	if numbered == nil {
		n = ff.definitions()
	}
	if len(ff.times) > 0 && ff.times.len() != n || numbered == nil && len(ff.setNumbers) > 0 || ff.valueSizes.len() != max(0, n-1) {
		return f, errRecord
	}
	f.later = string(ff.later)
	if n == 0 {
		if ff.definitions() > 0 && numbered == nil || len(ff.setSizes) > 0 && len(ff.sets) == 0 || len(ff.values) > 0 || len(ff.hidden) > 0 {
			return f, errRecord
		}
		return f, nil
	}
	f.parts = make([]part, 0, n)
	setSizes, numbers, times, valueSizes, hidden := ff.setSizes, ff.setNumbers, ff.times, ff.valueSizes, ff.hidden
	definitions, rest, values := ff.sets, ff.values, string(ff.values)
	f.valueSize = len(values)
	for i := range n {
		var k *series.Set
		if numbered != nil {
			k, err = numbered(numbers.next())
		} else {
			var definition []byte
			if definition, definitions, err = setSizes.cut(definitions, i == n-1); err == nil {
				k, err = sets.Decode(definition)
			}
		}
		if err != nil {
			return f, err
		}
		var value []byte
		if value, rest, err = valueSizes.cut(rest, i == n-1); err != nil {
			return f, err
		}
		at := pushed
		if len(ff.times) > 0 {
			at += protowire.DecodeZigZag(times.next())
		}
		var h *hidingFields
		if len(hidden) > 0 && hidden[0].family == uint64(i) {
			h, hidden = &hidden[0], hidden[1:]
		}
		of := values[:len(value)]
		values = values[len(value):]
		if k == nil {
			f.lost++
			f.valueSize -= len(value)
			continue
		}
		if !k.HasHoles(labels) {
			return f, errHoles
		}
		if n := len(f.parts); n > 0 && f.parts[n-1].set.Name() >= k.Name() {
			return f, errRecord
		}
		if !k.Fits(value) {
			return f, errValues
		}
		p := part{set: k, values: of, pushed: at}
		if h != nil {
			h.loadedHiding.family, p.hidden = k.Name(), h.h
			f.hidings = append(f.hidings, h.loadedHiding)
		}
		f.parts = append(f.parts, p)
		f.lines += k.Lines()
	}
	if len(hidden) > 0 {
		return f, errRecord
	}
	return f, nil
}

// readHiding adds a hiding. They are in the order of their families.
func (ff *familiesFields) readHiding(b []byte) error {
	h := hidingFields{loadedHiding: loadedHiding{h: &hiding{}}}
	for len(b) > 0 {
		f, rest, ok := cutField(b)
		if !ok {
			return errRecord
		}
		switch b = rest; f.tag {
		case hidingFamily<<3 | varintType:
			h.family = f.n
		case hidingOrder<<3 | varintType:
			h.order = f.n
		case hidingReason<<3 | bytesType:
			h.h.reason = string(f.bytes)
		case hidingName<<3 | bytesType:
			h.h.name = string(f.bytes)
		case hidingBy<<3 | bytesType:
			h.by = string(f.bytes)
		default:
			return f.unknown(hidingBy)
		}
	}
	if h.order == 0 {
		return errRecord
	}
	ff.hidden = append(ff.hidden, h)
	return nil
}
