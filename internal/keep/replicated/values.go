package replicated

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/klauspost/compress/s2"

	"pushrelay/internal/groupstore"
)

// The value of a record begins with a byte that says how it is packed. A sealed one goes on with a checksum of its key and of all else: etcd has none of
// what lies on its disk, and a relay that installs a record with a bit turned over would show it, and write it for all once it leads.
const (
	plain  = 0
	packed = 1 // by S2
	// sealed is added, from feature level 2 on. One bit that is turned over does not make one of it that is not.
	sealed = 0xa4
)

// sealSize is what the checksum takes.
const sealSize = 4

// packFrom is the length from which a record is worth packing.
const packFrom = 256

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealOf returns the checksum of a value with room for it, under a key.
func sealOf(key string, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(key))
	sum = crc32.Update(sum, castagnoli, value[:1])
	return crc32.Update(sum, castagnoli, value[1+sealSize:])
}

// pack returns a record as a value of that key.
func pack(key string, record []byte, seal bool) []byte {
	head := 1
	if seal {
		head += sealSize
	}
	kind, value := byte(plain), []byte(nil)
	if len(record) >= packFrom {
		value = make([]byte, head+s2.MaxEncodedLen(len(record)))
		if n := len(s2.Encode(value[head:], record)); n < len(record) {
			kind, value = packed, value[:head+n]
		}
	}
	if kind == plain {
		value = append(make([]byte, head, head+len(record)), record...)
	}
	value[0] = kind
	if seal {
		value[0] += sealed
		binary.BigEndian.PutUint32(value[1:], sealOf(key, value))
	}
	return value
}

var (
	errValue = errors.New("a value of the cluster's etcd is not understood: it was written by a later release, or by another program")
	errSeal  = errors.New("a value of the cluster's etcd is not what was written: look at the disk and the memory of this machine. Then, on another member, relay-server cluster remove NAME;" +
		" this one joins again with an empty data dir")
)

// unpack returns the record that a value of that key is. It may alias the value.
func unpack(key string, value []byte) ([]byte, error) {
	if len(value) == 0 {
		return nil, errValue
	}
	kind, rest := value[0], value[1:]
	if kind == sealed+plain || kind == sealed+packed {
		if len(value) < 1+sealSize {
			return nil, errValue
		}
		if binary.BigEndian.Uint32(rest) != sealOf(key, value) {
			return nil, errSeal
		}
		kind, rest = kind-sealed, rest[sealSize:]
	}
	switch kind {
	case plain:
		return rest, nil
	case packed:
		record, err := s2.Decode(nil, rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errValue, err)
		}
		return record, nil
	default:
		return nil, errValue
	}
}

// read returns the record that a key and its value are. It may alias the value.
func (k keys) read(key string, value []byte) (id groupstore.RecordID, record []byte, err error) {
	if id, err = k.recordID(key); err != nil {
		return id, nil, err
	}
	if record, err = unpack(key, value); err != nil {
		return id, nil, fmt.Errorf("%q: %w", key, err)
	}
	return id, record, nil
}

// CheckValue returns an error for a value that is not what was written under that key, of a store whose keys begin with a prefix. Of others nothing is known.
func CheckValue(prefix, key string, value []byte) error {
	keys := keys{prefix}
	switch {
	case !strings.HasPrefix(key, prefix), key == keys.leader(), key == keys.position(), key == keys.store():
		return nil
	}
	_, _, err := keys.read(key, value)
	return err
}
