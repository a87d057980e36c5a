package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
)

// relaysVersion is the version of the file's format. Raise it when an older agent would misread a newer file.
const relaysVersion = 1

// relaysFile is the file of the relays of an authority.
type relaysFile struct {
	datadir.Head
	Relays []string `json:"relays"`
}

func readRelays(file string) ([]string, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	read, err := decodeRelays(text)
	if newer := read.CheckKnown(file, relaysVersion); newer != nil {
		return nil, newer
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", relaysName, err)
	}
	return read.Relays, nil
}

func decodeRelays(text []byte) (relaysFile, error) {
	var read relaysFile
	if err := json.Unmarshal(text, &read); err != nil {
		return relaysFile{Head: datadir.ReadHead(text)}, err
	}
	if read.Version == 0 {
		return read, errors.New("it does not say its version")
	}
	if len(read.Relays) > MaxRelays {
		return read, fmt.Errorf("it has %d relays, want %d at most", len(read.Relays), MaxRelays)
	}
	for i, address := range read.Relays {
		if err := enrol.CheckAddresses(read.Relays[i : i+1]); err != nil {
			return read, err
		}
		if slices.Contains(read.Relays[:i], address) {
			return read, fmt.Errorf("relay %q is in it twice", address)
		}
	}
	return read, nil
}

func (id *Identity) writeRelays(relays []string, release string) error {
	text, err := json.MarshalIndent(relaysFile{Head: datadir.Head{Version: relaysVersion, Release: release}, Relays: relays}, "", "  ")
	if err != nil {
		return err
	}
	return id.disk.replace(filepath.Join(id.dir, relaysName), append(text, '\n'))
}
