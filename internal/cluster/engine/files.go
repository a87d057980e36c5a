package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// ErrDamaged means that what a member's disk holds is not what was written.
var ErrDamaged = errors.New("the files of the member's etcd are damaged")

// database returns the file in which a member keeps what it has put to use.
func database(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

// checkDatabase reads all of the member's database, if there is one. Etcd trusts it: of what is damaged it says nothing, and shows it, or panics when it comes
// across it. It reads all of it at a start, too.
func (cfg *Config) checkDatabase() (err error) {
	file := database(cfg.Dir)
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // for pages that refer to where nothing is
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", ErrDamaged, file, p)
		}
	}()
	if err := checkPages(file); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, file, err)
	}
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{ReadOnly: true, Timeout: openTimeout})
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("reading %s: another process has it open: %w", file, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, file, err)
	}
	defer db.Close() //nolint:errcheck // It was only read.
	if err := db.View(cfg.checkTables); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, file, err)
	}
	return nil
}

// checkTables reads all keys and values, and looks each key up, as etcd does; and then it has the library look at its pages.
func (cfg *Config) checkTables(tx *bbolt.Tx) error {
	err := tx.ForEach(func(name []byte, table *bbolt.Bucket) error {
		if table == nil {
			return fmt.Errorf("%q is no table", name)
		}
		return table.ForEach(func(key, value []byte) error {
			if !bytes.Equal(table.Get(key), value) {
				return fmt.Errorf("a key of its table %q is not where it is looked for", name)
			}
			if string(name) != tableOfKeys {
				return nil
			}
			return cfg.checkRevision(key, value)
		})
	})
	if err != nil {
		return err
	}
	for damage := range tx.Check() { // all are to be taken, and the first is enough
		err = cmp.Or(err, damage)
	}
	return err
}

// tableOfKeys is where etcd keeps each revision of each key.
const tableOfKeys = "key"

// How long the keys of that table are: a revision of eight bytes, a byte between, eight more for the place in the transaction, and one more for a deletion.
const (
	revisionBytes  = 17
	tombstoneBytes = 18
)

// checkRevision checks one revision of a key.
func (cfg *Config) checkRevision(revision, value []byte) error {
	if n := len(revision); n != revisionBytes && n != tombstoneBytes {
		return fmt.Errorf("a revision of %d bytes", n)
	}
	kv := &mvccpb.KeyValue{}
	if err := proto.Unmarshal(value, kv); err != nil {
		return err
	}
	deleted := len(revision) == tombstoneBytes // of which the key alone is there
	if !deleted && binary.BigEndian.Uint64(revision) != uint64(kv.ModRevision) {
		return fmt.Errorf("a revision of %q is another one by its own account", kv.Key)
	}
	if cfg.CheckValue == nil || deleted {
		return nil
	}
	return cfg.CheckValue(string(kv.Key), kv.Value)
}
