package keep

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/datadir"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/ledger"
	"pushrelay/internal/wal"
)

// ledgerPayload is a part of the ledger that goes along with a backup. No log has one.
const ledgerPayload = byte(storagev1.PayloadKind_PAYLOAD_KIND_LEDGER)

const (
	// recordsOfPart is how many records are in a part.
	recordsOfPart = 1024
	// maxLedgerBytes bounds a ledger in a backup, as lines: some millions of certificates.
	maxLedgerBytes = 1 << 30
)

// errLedgerTooLarge says what makes a ledger smaller.
var errLedgerTooLarge = fmt.Errorf("the ledger has more than %d bytes, which no backup takes: a shorter --agents.renewal-grace has it forget sooner what has ended", maxLedgerBytes)

// addLedger adds what a ledger says now, in parts, at least one; nothing if it is nil.
func addLedger(w *wal.SnapshotWriter, l *ledger.State) error {
	if l == nil {
		return nil
	}
	parts := slices.Collect(slices.Chunk(l.Records(), recordsOfPart))
	if len(parts) == 0 {
		parts = append(parts, nil)
	}
	size := 0
	for _, records := range parts {
		lines, err := ledger.EncodeRecords(records)
		if err != nil {
			return err
		}
		if size += len(lines); size > maxLedgerBytes {
			return errLedgerTooLarge
		}
		payload, err := encodeLedgerPart(lines)
		if err != nil {
			return err
		}
		if err := w.Add(payload); err != nil {
			return err
		}
	}
	return nil
}

func encodeLedgerPart(lines []byte) ([]byte, error) {
	part := &storagev1.LedgerPart{Version: ledger.FormatVersion, Records: s2.Encode(nil, lines)}
	payload, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{ledgerPayload}, part)
	if err != nil {
		return nil, fmt.Errorf("encoding the ledger: %w", err)
	}
	return payload, nil
}

// A ledgerReading collects the parts of a ledger. The zero value has none yet.
type ledgerReading struct {
	records []ledger.Record
	bytes   int // of all lines
	parts   int
}

// take takes the next part.
func (r *ledgerReading) take(message []byte) error {
	part := &storagev1.LedgerPart{}
	if err := proto.Unmarshal(message, part); err != nil {
		return fmt.Errorf("decoding the ledger: %w", err)
	}
	head := datadir.Head{Version: part.GetVersion()}
	if err := head.CheckKnown("the ledger in the backup", ledger.FormatVersion); err != nil {
		return err
	}
	if head.Version == 0 || len(part.ProtoReflect().GetUnknown()) > 0 {
		return errors.New("decoding the ledger: a part of it is not understood")
	}
	size, err := s2.DecodedLen(part.GetRecords())
	if err != nil {
		return fmt.Errorf("decompressing the ledger: %w", err)
	}
	if r.bytes += size; r.bytes > maxLedgerBytes {
		return errLedgerTooLarge
	}
	lines, err := s2.Decode(nil, part.GetRecords())
	if err != nil {
		return fmt.Errorf("decompressing the ledger: %w", err)
	}
	records, err := ledger.DecodeRecords(lines)
	if err != nil {
		return err
	}
	r.records, r.parts = append(r.records, records...), r.parts+1
	return nil
}

// state returns what the ledger says; nil for none.
func (r *ledgerReading) state() *ledger.State {
	if r.parts == 0 {
		return nil
	}
	s := ledger.NewState()
	s.Begin(r.records)
	return s
}
