package keep

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/wal"
)

// Each payload of the log and of a snapshot begins with one byte that says whose it is.
const (
	storePayload      = 's' // a record of the grouping store
	compressedPayload = 'z' // the same, compressed by S2
	markPayload       = 'm' // a mark, in JSON
)

const (
	// compressFrom is the size from which a record is compressed. Those of changes name every series in full, so that each
	// means the same whatever is lost before it; compressed, they are hardly larger than their values.
	compressFrom = 512
	// maxRecordBytes is the largest record: more than a push can be with any limits that make sense.
	maxRecordBytes = 1 << 30
)

// An ID identifies a store: what agents have sent to one they need not send again. It is made with the store, and made
// anew when something that the store had acknowledged is lost (T17, T18).
type ID [16]byte

// String returns the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Import says that the content of a file was taken over, so that it is never done again.
type Import struct {
	// Name is the absolute path of the file.
	Name string `json:"name"`
	// Size in bytes and SHA256 in hexadecimal are those of the file when it was read. They are zero if it was the relay that
	// wrote the file first.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// At is when it was done.
	At time.Time `json:"at"`
}

// A mark is what the log holds beside changes. Exactly one field is set, or those of the writer.
type mark struct {
	writer

	StoreID string  `json:"store_id,omitempty"`
	Import  *Import `json:"import,omitempty"`
	Epoch   *epoch  `json:"epoch,omitempty"`
}

// epoch is a [history.Epoch] as it is written.
type epoch struct {
	ID    string `json:"id"`
	Began uint64 `json:"began"`
}

// marks are all that hold at one moment.
type marks struct {
	writer  writer // of what comes last
	id      ID
	imports []Import
	epochs  []history.Epoch // replaced whole
}

// payloads returns the marks as they are written, the writer first; those for a backup leave the ID out, since a store that is
// made from it is another one.
func (m *marks) payloads() ([][]byte, error) {
	all := []mark{{writer: m.writer}}
	if m.id != (ID{}) {
		all = append(all, mark{StoreID: m.id.String()})
	}
	for _, i := range m.imports {
		all = append(all, mark{Import: &i})
	}
	for _, e := range m.epochs {
		all = append(all, epochMark(e))
	}
	encoded := make([][]byte, 0, len(all))
	for _, one := range all {
		payload, err := one.payload()
		if err != nil {
			return nil, err
		}
		encoded = append(encoded, payload)
	}
	return encoded, nil
}

func epochMark(e history.Epoch) mark { return mark{Epoch: &epoch{ID: e.ID.String(), Began: e.Began}} }

func (m mark) payload() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a mark: %w", err)
	}
	return append([]byte{markPayload}, text...), nil
}

// take reads a mark. One that is not understood was written by a later version, and must not be lost.
func (m *marks) take(text []byte) error {
	if err := writerOf(text).known(); err != nil {
		return err // whatever else a newer release has put there
	}
	var one mark
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&one); err != nil {
		return fmt.Errorf("decoding a mark of the log: %w", err)
	}
	switch {
	case one.writer != writer{}:
		m.writer = one.writer
	case one.Import != nil:
		m.imports = append(m.imports, *one.Import)
	case one.StoreID != "":
		id, err := decodeID(one.StoreID)
		if err != nil {
			return err
		}
		if m.id != ID(id) {
			m.id, m.epochs = ID(id), nil // another store than before, which has a history of its own
		}
	case one.Epoch != nil:
		id, err := decodeID(one.Epoch.ID)
		if err != nil {
			return err
		}
		m.epochs = history.Begin(m.epochs, history.Epoch{ID: id, Began: one.Epoch.Began})
	default:
		return errors.New("decoding a mark of the log: it says nothing")
	}
	return nil
}

func decodeID(text string) (id [16]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("decoding a mark of the log: %q is no id", text)
	}
	return [16]byte(raw), nil
}

// A reading makes a store of payloads.
type reading struct {
	store  *groupstore.Store
	loader *groupstore.Loader // nil once the snapshot is read, and if there is none
	marks  marks
	record []byte // the last one that was decompressed
	// appending says that the log after the snapshot is read.
	appending bool
	// mended is the first fault for which changes were applied although others before them are missing; nil if none was.
	mended error
	lost   []string  // what is lost of the snapshot, by the names of its groups
	newest time.Time // of the last change
}

// replay returns what takes the payloads of a log.
func (r *reading) replay() wal.Replay {
	return wal.Replay{Snapshot: r.snapshot, Appended: r.appended, Missing: r.missing, Newest: func() time.Time { return r.newest }}
}

// missing notes that something is missing between the payloads.
func (r *reading) missing() {
	if r.appending {
		return // What contradicts the rest is mended.
	}
	if r.loader == nil {
		r.loader = r.store.Loader()
	}
	r.loader.Missing()
}

// snapshot takes a payload of a snapshot or a backup.
func (r *reading) snapshot(payload []byte) error {
	return r.split(payload, func(record []byte) error {
		if r.loader == nil {
			r.loader = r.store.Loader()
		}
		return r.loader.Add(record)
	})
}

// loaded ends the snapshot.
func (r *reading) loaded() error {
	if r.loader == nil {
		return nil
	}
	err := r.loader.Finish()
	r.lost = r.loader.Lost()
	r.loader = nil
	return err
}

// appended takes a payload of the log. Changes that do not fit are mended: whether that may be is known once the whole
// log is read.
func (r *reading) appended(payload []byte) error {
	r.appending = true
	if err := r.loaded(); err != nil {
		return err
	}
	return r.split(payload, func(record []byte) error {
		if at := groupstore.ChangeTime(record); !at.IsZero() {
			r.newest = at
		}
		if r.mended != nil {
			return r.store.Mend(record)
		}
		err := r.store.Replay(record)
		if err == nil {
			return nil
		}
		if err := r.store.Mend(record); err != nil {
			return err
		}
		r.mended = err
		return nil
	})
}

// decompress returns a record, which is valid until the next call.
func (r *reading) decompress(payload []byte) ([]byte, error) {
	size, err := s2.DecodedLen(payload)
	if err == nil && size > maxRecordBytes {
		err = fmt.Errorf("it has %d bytes", size)
	}
	if err == nil {
		r.record, err = s2.Decode(r.record[:cap(r.record)], payload)
	}
	if err != nil {
		return nil, fmt.Errorf("decompressing a record of the log: %w", err)
	}
	return r.record, nil
}

func (r *reading) split(payload []byte, ofStore func([]byte) error) error {
	return r.marks.writer.written(r.splitPlain(payload, ofStore))
}

func (r *reading) splitPlain(payload []byte, ofStore func([]byte) error) error {
	if len(payload) == 0 {
		return errors.New("a payload of the log is empty")
	}
	switch payload[0] {
	case storePayload:
		return ofStore(payload[1:])
	case compressedPayload:
		record, err := r.decompress(payload[1:])
		if err != nil {
			return err
		}
		return ofStore(record)
	case markPayload:
		return r.marks.take(payload[1:])
	default:
		return fmt.Errorf("a payload of the log is of the unknown kind %q: it was written by a later version", payload[0])
	}
}
