package shared

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"pushrelay/internal/datadir"
	"pushrelay/internal/ledger"
)

// Below a prefix there are:
//
//	N            what was noted at once: N is its number, in 20 digits, and the first one is 1. None is ever left out or written twice
//	mark         a storagev1.ClusterLedgerMark: which parts have what was noted first; none while no parts are
//	parts/ID/N   records that are to be read before those of the numbers behind the mark's
//
// Keys of records and parts have a head and lines of records as values, see encode. Those of numbers up to the mark's
// have no meaning any more, and go but for the last.
type ledgerKeys struct{ prefix string }

func (k ledgerKeys) mark() string             { return k.prefix + "mark" }
func (k ledgerKeys) note(n uint64) string     { return fmt.Sprintf("%s%020d", k.prefix, n) }
func (k ledgerKeys) endOfNotes() string       { return k.prefix + ":" } // what follows 9
func (k ledgerKeys) parts() string            { return k.prefix + "parts/" }
func (k ledgerKeys) partsOf(id []byte) string { return k.parts() + hex.EncodeToString(id) + "/" }
func (k ledgerKeys) part(id []byte, n int) string {
	return fmt.Sprintf("%s%06d", k.partsOf(id), n)
}

// number returns that of a key of records.
func (k ledgerKeys) number(key string) (uint64, error) {
	digits, _ := strings.CutPrefix(key, k.prefix)
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || k.note(n) != key {
		return 0, fmt.Errorf("%w: the key %q", errMisread, key)
	}
	return n, nil
}

// errMisread means that etcd holds what is not understood here. It will not be another one if it is read again.
var errMisread = errors.New("the cluster's etcd holds what this release does not understand")

// A head is the first line of a value.
type head struct {
	datadir.Head

	// ID is random: by it whoever wrote the value finds out that it did.
	ID string `json:"id"`
}

func encode(id, release string, records []ledger.Record) (string, error) {
	first, err := json.Marshal(head{datadir.Head{Version: ledger.FormatVersion, Release: release}, id})
	if err != nil {
		return "", err
	}
	lines, err := ledger.EncodeRecords(records)
	return string(first) + "\n" + string(lines), err
}

func decode(key, value []byte) (id string, records []ledger.Record, err error) {
	first, lines, _ := bytes.Cut(value, []byte("\n"))
	var h head
	if err := json.Unmarshal(first, &h); err != nil {
		return "", nil, fmt.Errorf("%w: %q: %w", errMisread, key, err)
	}
	if err := h.CheckKnown(fmt.Sprintf("%q", key), ledger.FormatVersion); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errMisread, err)
	}
	if records, err = ledger.DecodeRecords(lines); err != nil {
		return "", nil, fmt.Errorf("%w: %q: %w", errMisread, key, err)
	}
	return h.ID, records, nil
}
