package spool

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"pushrelay/internal/datadir"
	storagev1 "pushrelay/internal/gen/storage/v1"
)

// format is the version of all that the journal holds. Raise it when an earlier release would not understand, or misread, what
// this one writes. A journal that names none is of format 1.
//
//	1  until a release was named
//	2  the release and the format are named, before anything that they wrote
//	3  what relays say of themselves is remembered
//	4  what pushes say of their groups' lives, and of their jobs; what adds to a group, and what was added up
const format = 4

// A writer is a release that writes the journal, and in which format. Its payload is understood by any release: fields of which
// nothing is known are passed over.
type writer struct {
	format  uint64
	release string
}

func (w writer) payload() []byte {
	return payloadOf(writerPayload, &storagev1.SpoolWriter{Format: w.format, Release: []byte(w.release)})
}

// decodeWriter reads a payload without its first byte, and refuses what a newer release wrote.
func decodeWriter(b []byte) (writer, error) {
	m := &storagev1.SpoolWriter{}
	if err := proto.Unmarshal(b, m); err != nil {
		return writer{}, errRecord
	}
	w := writer{format: m.GetFormat(), release: string(m.GetRelease())}
	if w.format > format {
		return w, &datadir.NewerError{What: "the spool", Release: w.release, Format: w.format, Known: format}
	}
	return w, nil
}

// self is the writer that this release is.
func (j *journal) self() writer { return writer{format: format, release: j.cfg.Release} }

// written adds to an error of a payload which release wrote it, as far as that is known.
func (w writer) written(err error) error {
	if _, newer := errors.AsType[*datadir.NewerError](err); err == nil || newer || w.release == "" {
		return err
	}
	return fmt.Errorf("%w (the release that wrote it is %s)", err, w.release)
}
