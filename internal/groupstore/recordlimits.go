package groupstore

import "pushrelay/internal/change"

// RecordLimits bound what groups may take where their records are kept.
type RecordLimits struct {
	// Bytes bounds what the larger of a group's records may take; 0 means no limit.
	Bytes int
	// Packed returns how many bytes a record takes where it is kept, nil for its length. It is asked under the store's lock, and only about a record
	// that is larger than Bytes as it is.
	Packed func(record []byte) int
	// Name says what sets the limit.
	Name string
	// Full returns why nothing more can be kept, empty while it can; nil if it always can. It is asked under the store's lock, and must not block.
	Full func() string
}

// unrecordable returns why what the draft leaves cannot be kept; nil if it can. What takes things away always can.
func (x *decision) unrecordable() *change.Outcome {
	l, e := &x.records, &x.effect
	if x.refusal != nil || x.imported != nil || !x.operation.IsPush() || e.Operation != change.Replace && e.Operation != change.Merge {
		return nil //nolint:nilerr // What is refused is told as that.
	}
	if l.Full != nil {
		if reason := l.Full(); reason != "" {
			return change.Refuse(change.Full, "the store is full: %s", reason)
		}
	}
	if l.Bytes == 0 || sizeOfParts(e.parts)+sizeOfParts(x.partsLeft()) <= l.Bytes {
		return nil
	}
	record := familiesOf{state: nextState(e, x.group), born: x.group.born}.encode()
	size := len(record)
	if size > l.Bytes && l.Packed != nil {
		size = l.Packed(record)
	}
	if size <= l.Bytes {
		return nil
	}
	return change.Refuse(change.TooLarge, "the group would take %d bytes, and no more than %d can be kept (%s): push to several groups", size, l.Bytes, l.Name)
}

// partsLeft are those that the group has and keeps, and perhaps more.
func (x *decision) partsLeft() []part {
	if x.effect.Operation == change.Replace || x.group.state == nil {
		return nil
	}
	return x.group.state.parts
}

// sizeOfParts returns what parts take in a record.
func sizeOfParts(parts []part) int {
	f := familiesRecord{parts: parts}
	return f.size()
}
