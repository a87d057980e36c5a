package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"pushrelay/internal/mtls"
)

// FormatVersion is the version of the format of records. Raise it when an older relay would misread a newer file. Version 1 had no tokens, and is read for good;
// it is written anew with the next record.
const FormatVersion = 2

// A Record is one thing that a ledger has noted, of one of its kinds, and when it was. It is a line of the file behind the first.
type Record struct {
	At      time.Time      `json:"at"`
	Issued  *issuedRecord  `json:"issued,omitempty"`
	Revoked *revokedRecord `json:"revoked,omitempty"`
	Allowed *allowedRecord `json:"allowed,omitempty"`
	Token   *tokenRecord   `json:"token,omitempty"`
	Voided  *voidedRecord  `json:"voided,omitempty"`
}

type issuedRecord struct {
	Agent   string    `json:"agent"`
	Serial  string    `json:"serial"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	By      Way       `json:"by"`
	Address string    `json:"address,omitempty"`
	// Token is the id of the token that it was issued for, Key the digest of its public key, Parent the serial number of the certificate that it
	// renewed.
	Token  string `json:"token,omitempty"`
	Key    string `json:"key,omitempty"`
	Parent string `json:"parent,omitempty"`
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

type tokenRecord struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"`
	Name    string    `json:"name"`
	Prefix  bool      `json:"prefix,omitempty"`
	Replace bool      `json:"replace,omitempty"`
	Uses    int       `json:"uses"`
	End     time.Time `json:"end"`
}

type voidedRecord struct {
	Token string `json:"token"`
}

// Revokes reports whether the record refuses what may have been let in.
func (r *Record) Revokes() bool { return r.Revoked != nil }

// agent returns whom the record is about; empty if it is about none.
func (r *Record) agent() string {
	switch {
	case r.Issued != nil:
		return r.Issued.Agent
	case r.Revoked != nil:
		return r.Revoked.Agent
	case r.Allowed != nil:
		return r.Allowed.Agent
	default:
		return ""
	}
}

// check says what is wrong with a record that no relay wrote.
func (r *Record) check() error {
	kinds := 0
	for _, is := range []bool{r.Issued != nil, r.Revoked != nil, r.Allowed != nil, r.Token != nil, r.Voided != nil} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return fmt.Errorf("it is of %d kinds, want one", kinds)
	case r.Token != nil:
		return r.Token.check()
	case r.Voided != nil:
		return checkDigest("token", r.Voided.Token, idBytes)
	}
	if err := mtls.CheckAgentName(r.agent()); err != nil {
		return err
	}
	switch {
	case r.Issued != nil:
		return r.Issued.check()
	case r.Revoked != nil && r.Revoked.Serial != "":
		return checkSerial(r.Revoked.Serial)
	default:
		return nil
	}
}

func (r *issuedRecord) check() error {
	if !r.By.isKnown() {
		return fmt.Errorf("a certificate was issued by %q", r.By)
	}
	if r.Parent != "" {
		if err := checkSerial(r.Parent); err != nil {
			return err
		}
	}
	if r.Token != "" {
		if err := errors.Join(checkDigest("token", r.Token, idBytes), checkDigest("key", r.Key, keyBytes)); err != nil {
			return err
		}
	}
	return checkSerial(r.Serial)
}

func (r *tokenRecord) check() error {
	if err := errors.Join(checkDigest("token", r.ID, idBytes), checkDigest("hash", r.Hash, len(Hash{}))); err != nil {
		return err
	}
	if r.Uses < 1 {
		return fmt.Errorf("a token has %d uses", r.Uses)
	}
	return CheckTokenName(r.Name, r.Prefix)
}

func checkSerial(text string) error {
	if canonical, err := Serial(text); err != nil || canonical != text {
		return fmt.Errorf("%q is no serial number", text)
	}
	return nil
}

// The lengths of what names a token and a key.
const (
	idBytes  = 8
	keyBytes = 32
)

func checkDigest(what, text string, length int) error {
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != length || text != strings.ToLower(text) {
		return fmt.Errorf("the %s %.80q is not %d bytes in hexadecimal", what, text, length)
	}
	return nil
}

// EncodeRecords returns records as lines of JSON.
func EncodeRecords(records []Record) ([]byte, error) {
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	for i := range records {
		if err := lines.Encode(&records[i]); err != nil {
			return nil, fmt.Errorf("encoding a record of the ledger: %w", err)
		}
	}
	return text.Bytes(), nil
}

// DecodeRecords returns what [EncodeRecords] was given. A record that this release does not understand is an error.
func DecodeRecords(text []byte) ([]Record, error) {
	var records []Record
	for line := range bytes.Lines(text) {
		var r Record
		err := json.Unmarshal(line, &r)
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return nil, fmt.Errorf("record %d of the ledger: %w", len(records)+1, err)
		}
		records = append(records, r)
	}
	return records, nil
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
