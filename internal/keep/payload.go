package keep

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/s2"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"pushrelay/internal/datadir"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/history"
	"pushrelay/internal/wal"
)

// Each payload of the log and of a snapshot begins with one byte that says whose it is: a storagev1.PayloadKind, most of which are the store's records as
// they are, or one of the letters that were before format 3.
const (
	compressedPayload = byte(storagev1.PayloadKind_PAYLOAD_KIND_COMPRESSED) // a record of the store, compressed by S2
	markPayload       = byte(storagev1.PayloadKind_PAYLOAD_KIND_MARK)
	firstKind         = byte(storagev1.PayloadKind_PAYLOAD_KIND_CHANGE)

	writerPayload = 'm' // a mark in JSON: the release that writes, as any release has to read it; in former formats all others, too

	formerStorePayload      = 's' // a record of the store, which is of a former format
	formerCompressedPayload = 'z' // the same, compressed by S2
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

	later []byte // fields of a later release
}

// A formerMark is what the log holds beside changes, as a mark in JSON. Exactly one field is set, or those of the writer.
type formerMark struct {
	writer

	StoreID string  `json:"store_id,omitempty"`
	Import  *Import `json:"import,omitempty"`
	Epoch   *epoch  `json:"epoch,omitempty"`
}

// epoch is a [history.Epoch] as it was written.
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

	// Of a later release: fields of epochs, by their ids, and whole marks, each as it is.
	laterOfEpochs map[history.EpochID][]byte
	later         [][]byte
}

// ofBackup returns those that a backup has: not the ID, nor where the store has been, since a store that is made from it is another one.
func (m *marks) ofBackup() marks {
	return marks{writer: m.writer, imports: m.imports, later: m.later}
}

// payloads returns the marks as they are written, the writer first.
func (m *marks) payloads() ([][]byte, error) {
	first, err := m.writer.payload()
	if err != nil {
		return nil, err
	}
	var all []*storagev1.StoreMark
	if m.id != (ID{}) {
		all = append(all, idMark(m.id))
	}
	for i := range m.imports {
		all = append(all, importMark(&m.imports[i]))
	}
	for _, e := range m.epochs {
		all = append(all, epochMark(e, m.laterOfEpochs[e.ID]))
	}
	encoded := [][]byte{first}
	for _, one := range all {
		payload, err := encodeMark(one)
		if err != nil {
			return nil, err
		}
		encoded = append(encoded, payload)
	}
	for _, one := range m.later {
		encoded = append(encoded, append([]byte{markPayload}, one...))
	}
	return encoded, nil
}

func idMark(id ID) *storagev1.StoreMark { return &storagev1.StoreMark{StoreId: id[:]} }

func importMark(i *Import) *storagev1.StoreMark {
	m := &storagev1.Import{Name: []byte(i.Name), Size: i.Size, Sha256: []byte(i.SHA256), At: timestamppb.New(i.At)}
	if len(i.later) > 0 {
		m.ProtoReflect().SetUnknown(i.later)
	}
	return &storagev1.StoreMark{Import: m}
}

func epochMark(e history.Epoch, later []byte) *storagev1.StoreMark {
	m := &storagev1.Epoch{Id: e.ID[:], Began: e.Began}
	if len(later) > 0 {
		m.ProtoReflect().SetUnknown(later)
	}
	return &storagev1.StoreMark{Epoch: m}
}

func encodeMark(m *storagev1.StoreMark) ([]byte, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{markPayload}, m)
	if err != nil {
		return nil, fmt.Errorf("encoding a mark: %w", err)
	}
	return payload, nil
}

// take reads a mark. What is not known of it was written by a later release, and is kept.
func (m *marks) take(payload []byte) error {
	one := &storagev1.StoreMark{}
	if err := proto.Unmarshal(payload, one); err != nil {
		return fmt.Errorf("decoding a mark of the log: %w", err)
	}
	set := 0
	if raw := one.GetStoreId(); len(raw) > 0 {
		if len(raw) != len(ID{}) {
			return fmt.Errorf("decoding a mark of the log: %q is no id", raw)
		}
		set++
		m.takeID(ID(raw))
	}
	if i := one.GetImport(); i != nil {
		set++
		m.imports = append(m.imports, Import{
			Name: string(i.GetName()), Size: i.GetSize(), SHA256: string(i.GetSha256()), At: i.GetAt().AsTime(), later: i.ProtoReflect().GetUnknown(),
		})
	}
	if e := one.GetEpoch(); e != nil {
		if len(e.GetId()) != len(history.EpochID{}) {
			return fmt.Errorf("decoding a mark of the log: %q is no id", e.GetId())
		}
		set++
		m.takeEpoch(history.Epoch{ID: history.EpochID(e.GetId()), Began: e.GetBegan()}, e.ProtoReflect().GetUnknown())
	}
	later := one.ProtoReflect().GetUnknown()
	switch {
	case set > 1, set == 1 && len(later) > 0:
		return errors.New("decoding a mark of the log: it says several things")
	case set == 0 && len(later) == 0:
		return errors.New("decoding a mark of the log: it says nothing")
	case set == 0:
		m.later = append(m.later, later)
	}
	return nil
}

// takeID takes the ID of the store. Another one is another store than before, which has a history of its own.
func (m *marks) takeID(id ID) {
	if m.id != id {
		m.id, m.epochs, m.laterOfEpochs = id, nil, nil
	}
}

func (m *marks) takeEpoch(e history.Epoch, later []byte) {
	m.epochs = history.Begin(m.epochs, e)
	if len(later) > 0 {
		if m.laterOfEpochs == nil {
			m.laterOfEpochs = make(map[history.EpochID][]byte)
		}
		m.laterOfEpochs[e.ID] = later
	}
}

// takeJSON reads a mark in JSON. One that is not understood must not be lost.
func (m *marks) takeJSON(text []byte) error {
	if err := writerOf(text).known(); err != nil {
		return err // whatever else a newer release has put there
	}
	var one formerMark
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
		m.takeID(id)
	case one.Epoch != nil:
		id, err := decodeID(one.Epoch.ID)
		if err != nil {
			return err
		}
		m.takeEpoch(history.Epoch{ID: id, Began: one.Epoch.Began}, nil)
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
	ledger ledgerReading // of a backup
	record []byte        // the last one that was decompressed
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

// backup takes a payload of a backup.
func (r *reading) backup(payload []byte) error {
	if len(payload) > 0 && payload[0] == ledgerPayload {
		return r.marks.writer.written(r.ledger.take(payload[1:]))
	}
	return r.snapshot(payload)
}

// snapshot takes a payload of a snapshot, or one that a backup has as well.
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
	switch kind := payload[0]; kind {
	case compressedPayload, formerCompressedPayload:
		record, err := r.decompress(payload[1:])
		if err == nil && kind == formerCompressedPayload {
			err = checkFormer(record)
		}
		if err != nil {
			return err
		}
		return ofStore(record)
	case markPayload:
		return r.marks.take(payload[1:])
	case writerPayload:
		return r.marks.takeJSON(payload[1:])
	case formerStorePayload:
		if err := checkFormer(payload[1:]); err != nil {
			return err
		}
		return ofStore(payload[1:])
	default:
		if kind > compressedPayload || kind < firstKind {
			return fmt.Errorf("a payload of the log is of the unknown kind %q: it was written by a later version", kind)
		}
		return ofStore(payload)
	}
}

// checkFormer refuses a record that begins with a format which is none of the former ones: those end where kinds begin.
func checkFormer(record []byte) error {
	if len(record) > 0 && record[0] >= firstKind {
		return &datadir.NewerError{What: "a record of the store", Format: uint64(record[0]), Known: logFormat}
	}
	return nil
}
