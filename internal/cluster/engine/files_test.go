package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/engine"
)

// TestDamagedDatabase: wherever bits of a member's database are turned over, that is said before it starts, or all that it holds is as it was written.
func TestDamagedDatabase(t *testing.T) {
	if dir := os.Getenv(damagedVariable); dir != "" { // the process that reads, and must not die of it
		if err := engine.CheckDatabase(dir, checkValue); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "whole")
	e, err := engine.Start(t.Context(), engine.Config{Dir: dir, Name: "a", Listen: "127.0.0.1:0", Members: map[string]string{"a": "127.0.0.1:2380"}})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 2000
	for from := 0; from < keys; from += 500 {
		var ops []clientv3.Op
		for i := from; i < from+500; i++ {
			key := fmt.Sprint("/test/", i)
			ops = append(ops, clientv3.OpPut(key, valueOf(key)))
		}
		if _, err := e.Client().Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	if err := engine.CheckDatabase(dir, checkValue); err != nil {
		t.Fatalf("a member that was closed: %v", err)
	}
	file := filepath.Join("member", "snap", "db")
	whole, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	if err := os.MkdirAll(filepath.Dir(filepath.Join(damaged, file)), 0o700); err != nil {
		t.Fatal(err)
	}
	told := 0
	for seed := range uint64(80) {
		content := bytes.Clone(whole)
		turnOver(content, rand.New(rand.NewPCG(1, seed)))
		if err := os.WriteFile(filepath.Join(damaged, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
		reader := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDamagedDatabase$")
		reader.Env = append(os.Environ(), damagedVariable+"="+damaged)
		switch said, err := reader.CombinedOutput(); {
		case err == nil:
		case strings.Contains(string(said), engine.ErrDamaged.Error()):
			told++
			continue
		default:
			t.Errorf("seed %d: %v: %s", seed, err, said)
			continue
		}
		read := 0
		err := engine.Read(t.Context(), damaged, "/test/", func(key string, got []byte) error {
			read++
			return checkValue(key, got)
		})
		if err != nil || read != keys {
			t.Errorf("seed %d: nothing was said, and %d of %d keys are there: %v", seed, read, keys, err)
		}
	}
	t.Logf("%d damages were told", told)
	if told < 50 {
		t.Error("hardly any damage is told")
	}
}

// TestDamagedMemberDoesNotStart: a member reads what its disk holds before anything else, and does not start on what is not what was written (C4).
func TestDamagedMemberDoesNotStart(t *testing.T) {
	cfg := engine.Config{Dir: t.TempDir(), Name: "a", Listen: "127.0.0.1:0", Members: map[string]string{"a": "127.0.0.1:2380"}, CheckValue: checkValue}
	start := func() (*engine.Engine, error) {
		e, err := engine.Start(t.Context(), cfg)
		if err == nil {
			t.Cleanup(func() { e.Close() })
		}
		return e, err
	}
	put := func(e *engine.Engine, value string) {
		t.Helper()
		if _, err := e.Client().Put(t.Context(), "/test/1", value); err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
	e, err := start()
	if err != nil {
		t.Fatal(err)
	}
	put(e, valueOf("/test/1"))
	if e, err = start(); err != nil {
		t.Fatalf("on what was written: %v", err)
	}
	put(e, "another one")
	if _, err = start(); !errors.Is(err, engine.ErrDamaged) {
		t.Errorf("on what was not written: %v, want %v", err, engine.ErrDamaged)
	}
}

// damagedVariable names the folder of a member that is to be read.
const damagedVariable = "PUSHRELAY_DAMAGED_MEMBER"

// valueOf is what a test writes under a key.
func valueOf(key string) string { return strings.Repeat(key+" ", 40) }

var errOther = errors.New("it is another value")

func checkValue(key string, got []byte) error {
	if string(got) != valueOf(key) {
		return errOther
	}
	return nil
}

// turnOver turns bits of one page over that is in use.
func turnOver(content []byte, u *rand.Rand) {
	const page = 4096
	for {
		at := page * u.IntN(len(content)/page)
		if used := content[at : at+page]; len(bytes.Trim(used, "\x00")) > 0 {
			for range 1 + u.IntN(8) {
				used[u.IntN(page)] ^= 1 << u.IntN(8)
			}
			return
		}
	}
}
