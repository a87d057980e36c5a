package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"pushrelay/internal/mtls"
)

// fileVersion is the version of the file's format. Raise it when an older relay would misread a newer file.
const fileVersion = 1

// header is the first line of the file.
type header struct {
	Version uint64 `json:"version"`
	// Release is the one that began the file.
	Release string `json:"release,omitempty"`
}

// record is any further line: one of its kinds, and when it was.
type record struct {
	At      time.Time      `json:"at"`
	Issued  *issuedRecord  `json:"issued,omitempty"`
	Revoked *revokedRecord `json:"revoked,omitempty"`
	Allowed *allowedRecord `json:"allowed,omitempty"`
}

type issuedRecord struct {
	Agent   string    `json:"agent"`
	Serial  string    `json:"serial"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	By      Way       `json:"by"`
	Address string    `json:"address,omitempty"`
}

type revokedRecord struct {
	Agent  string    `json:"agent"`
	Serial string    `json:"serial,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Keep   bool      `json:"keep_targets,omitempty"`
}

type allowedRecord struct {
	Agent string `json:"agent"`
}

// agent returns whom the record is about; empty if it is of no kind, or of several.
func (r *record) agent() string {
	switch {
	case r.Issued != nil && r.Revoked == nil && r.Allowed == nil:
		return r.Issued.Agent
	case r.Revoked != nil && r.Issued == nil && r.Allowed == nil:
		return r.Revoked.Agent
	case r.Allowed != nil && r.Issued == nil && r.Revoked == nil:
		return r.Allowed.Agent
	default:
		return ""
	}
}

// check says what is wrong with a record that no relay wrote.
func (r *record) check() error {
	if err := mtls.CheckAgentName(r.agent()); err != nil {
		return err
	}
	var serial string
	switch {
	case r.Issued != nil:
		serial = r.Issued.Serial
		if !r.Issued.By.isKnown() {
			return fmt.Errorf("a certificate was issued by %q", r.Issued.By)
		}
	case r.Revoked != nil && r.Revoked.Serial != "":
		serial = r.Revoked.Serial
	default:
		return nil
	}
	if canonical, err := Serial(serial); err != nil || canonical != serial {
		return fmt.Errorf("%q is no serial number", serial)
	}
	return nil
}

// sumBytes is the length of what ends a line: the checksum of it and, by theirs, of all lines before it, so that a line that is missing,
// changed or in another place is seen.
const sumBytes = len(`,"sum":"00000000"}`)

func sumText(sum uint32) []byte { return fmt.Appendf(nil, `,"sum":"%08x"}`, sum) }

// seal returns a value as a line after the one with the given checksum, and its own.
func seal(v any, before uint32) (line []byte, sum uint32, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, 0, fmt.Errorf("encoding a record of the ledger: %w", err)
	}
	raw = raw[:len(raw)-1] // the closing brace comes after the checksum
	sum = chain(before, raw)
	return append(append(raw, sumText(sum)...), '\n'), sum, nil
}

// unseal returns what a line without its line feed holds, if its checksum is right.
func unseal(line []byte, before uint32) (raw []byte, sum uint32, err error) {
	if len(line) <= sumBytes {
		return nil, 0, errors.New("it is too short")
	}
	content, end := line[:len(line)-sumBytes], line[len(line)-sumBytes:]
	if sum = chain(before, content); !bytes.Equal(end, sumText(sum)) {
		return nil, 0, errors.New("its checksum is wrong, or a line before it is missing")
	}
	return append(bytes.Clone(content), '}'), sum, nil
}

func chain(before uint32, content []byte) uint32 {
	return crc32.Update(before, crc32.MakeTable(crc32.Castagnoli), content)
}
