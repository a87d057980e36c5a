package wal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pushrelay/internal/wal"
)

const testDir = "log"

// owner is what a store is to the log: it holds in memory what it appended, in order, and takes snapshots of that.
type owner struct {
	t     testing.TB
	cfg   wal.Config
	log   *wal.Log
	found wal.Recovery
	next  int      // a number for the next payload
	state []string // what is in memory; a prefix of it was recovered
	acked int      // as many of state are acknowledged
}

// testConfig makes small segments, so that there are many of them.
func testConfig(fsys wal.FS) wal.Config {
	return wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 2000}
}

// open starts an owner with what is on the disk.
func open(t testing.TB, cfg wal.Config) (*owner, error) {
	t.Helper()
	o := &owner{t: t, cfg: cfg}
	var err error
	o.log, o.found, err = wal.Open(t.Context(), cfg, o.replay())
	if o.found.Failure == nil {
		o.acked = len(o.state) // It counts from now on.
	}
	return o, err
}

func mustOpen(t testing.TB, cfg wal.Config) *owner {
	t.Helper()
	o, err := open(t, cfg)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	return o
}

func (o *owner) replay() wal.Replay {
	take := func(payload []byte) error {
		o.state = append(o.state, string(payload))
		return nil
	}
	return wal.Replay{Snapshot: take, Appended: take}
}

// payload makes one that no other is equal to.
func (o *owner) payload() string {
	o.next++
	return strconv.Itoa(o.next) + strings.Repeat("x", o.next*37%300)
}

// append appends n payloads at once and waits for all of them; it is false if not all became durable.
func (o *owner) append(n int) bool {
	o.t.Helper()
	var waits []func(context.Context) error
	all := true
	for range n {
		p := o.payload()
		wait, err := o.log.Append([]byte(p))
		switch {
		case err == nil:
			o.state = append(o.state, p)
			waits = append(waits, wait)
		case errors.Is(err, wal.ErrUnwritable):
			all = false
		default:
			o.t.Fatalf("Append() = %v", err)
		}
	}
	base := len(o.state) - len(waits)
	for i, wait := range waits {
		err := wait(o.t.Context())
		switch {
		case err == nil:
			o.acked = max(o.acked, base+i+1)
		case errors.Is(err, wal.ErrInDoubt):
			all = false
		default:
			o.t.Fatalf("wait() = %v", err)
		}
	}
	return all
}

// note notes one payload, which is in memory whatever the disk does; it is false if that is not durable.
func (o *owner) note() bool {
	o.t.Helper()
	p := o.payload()
	wait, err := o.log.Note([]byte(p))
	if err != nil {
		o.t.Fatalf("Note() = %v", err)
	}
	o.state = append(o.state, p)
	switch err := wait(o.t.Context()); {
	case err == nil:
		o.acked = len(o.state)
		return true
	case !errors.Is(err, wal.ErrInDoubt):
		o.t.Fatalf("wait() = %v", err)
	}
	return false
}

// resume takes up the log. Whatever was in doubt is durable then.
func (o *owner) resume() error {
	err := o.log.Resume(o.t.Context())
	if err == nil {
		o.acked = len(o.state)
	}
	return err
}

// snapshot takes one of all that is in memory.
func (o *owner) snapshot() error {
	s, err := o.log.Rotate()
	if err != nil {
		return err
	}
	defer s.Abort()
	all := len(o.state)
	for _, p := range o.state[:all] {
		if err := s.Add([]byte(p)); err != nil {
			return err
		}
	}
	if err := s.Commit(o.t.Context()); err != nil {
		return err
	}
	o.acked = max(o.acked, all)
	return nil
}

// checkPrefix fails unless got is a beginning of what was in memory, and has all that was acknowledged.
func (o *owner) checkPrefix(t testing.TB, got []string) {
	t.Helper()
	if len(got) < o.acked {
		t.Errorf("%d payloads are there, %d were acknowledged", len(got), o.acked)
	}
	if len(got) > len(o.state) {
		t.Errorf("%d payloads are there, %d were appended", len(got), len(o.state))
	}
	for i := range min(len(got), len(o.state)) {
		if got[i] != o.state[i] {
			t.Fatalf("payload %d is %.20q, want %.20q", i, got[i], o.state[i])
		}
	}
}

// reopen starts a successor with what is on a file system, and checks that the log has kept its promise. This owner must
// be dead.
func (o *owner) reopen(t testing.TB, fsys *memFS) *owner {
	t.Helper()
	o.log.Close() // It has nothing to say any more.
	cfg := o.cfg
	cfg.FS = fsys
	successor, err := open(t, cfg)
	if err != nil {
		t.Fatalf("Open() = %v\nfiles: %v", err, listing(fsys))
	}
	o.checkPrefix(t, successor.state)
	for _, loss := range successor.found.Losses {
		// A power cut may tear a batch such that nobody can tell whether it was acknowledged, in a sector of which it had a
		// few bytes only.
		known := slices.ContainsFunc(o.found.Losses, func(l wal.Loss) bool { return l.ID == loss.ID })
		if !known && (fsys.killed || loss.Proven) {
			t.Errorf("a crash is called a loss: %v (%s)", loss, loss.Reason)
		}
	}
	successor.next = o.next
	successor.acked = max(successor.acked, o.acked)
	return successor
}

func listing(m *memFS) string {
	var b strings.Builder
	for name, content := range m.files() {
		fmt.Fprintf(&b, "\n  %s: %d bytes", name, len(content))
	}
	return b.String()
}
