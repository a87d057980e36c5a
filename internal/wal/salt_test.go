package wal_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/wal"
)

// TestPayloadsThatAreBatches puts whole segments of the log, this one's own earlier ones and others', into payloads, and
// tears and damages the batch with them: nothing inside a payload is ever taken for a batch.
func TestPayloadsThatAreBatches(t *testing.T) {
	t.Parallel()
	other, _ := smallLog(t, true)
	fsys := newMemFS()
	cfg := wal.Config{Dir: testDir, FS: fsys, SegmentBytes: 1 << 20}
	o := mustOpen(t, cfg)
	appendShort(o, 3)
	if err := o.snapshot(); err != nil { // from here on in a segment of another number
		t.Fatal(err)
	}
	appendShort(o, 1)
	want := slices.Clone(o.state)
	own := fsys.files()
	var forged []string
	for _, content := range append(slices.Collect(mapValues(other.files())), slices.Collect(mapValues(own))...) {
		forged = append(forged, written(content))
		for _, b := range batches(content) {
			forged = append(forged, content[b.begin:b.end])
		}
	}
	payload := strings.Join(forged, "")
	// The name of the segment and the number of the next batch can be guessed; its salt cannot.
	name := segments(fsys)[len(segments(fsys))-1]
	guess := []byte(own[name])
	clear(guess[32:40])
	for _, b := range batches(own[name]) {
		clear(guess[b.begin : b.begin+8])
		wal.Reseal(guess)
		payload += string(guess[b.begin:b.end])
	}
	appendAndWait(t, o.log, payload)
	fsys = fsys.restart().clone()
	o.log.Close()

	content := fsys.files()[name]
	all := batches(content)
	last := all[len(all)-1]
	if content[last.begin:last.end][batchHeaderBytes+4:] != payload {
		t.Fatal("the last batch is not what was appended last")
	}
	for _, at := range []int{last.begin, last.begin + 20, last.begin + batchHeaderBytes + 1, last.end - 1} {
		torn := fsys.clone()
		flipped := []byte(content)
		flipped[at] ^= 1
		torn.put(filepath.Join(testDir, name), flipped)
		cfg.FS = torn
		o := mustOpen(t, cfg)
		if !slices.Equal(o.state, want) {
			t.Errorf("torn at %d: %d payloads are there, want %d", at, len(o.state), len(want))
		}
		o.log.Close()
	}
	// Behind a batch that follows, it is damage, and no repair digs out what is inside.
	cfg.FS = fsys
	o = mustOpen(t, cfg)
	appendShort(o, 1)
	want = append(want, o.state[len(o.state)-1])
	o.log.Close()
	flipped := []byte(fsys.files()[name])
	flipped[last.begin+20] ^= 1
	fsys.put(filepath.Join(testDir, name), flipped)
	if _, err := open(t, cfg); !isDamage(err) {
		t.Fatalf("Open() = %v, want a DamagedError", err)
	}
	if _, err := wal.Repair(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	o = mustOpen(t, cfg)
	defer o.log.Close()
	if !slices.Equal(o.state, want) {
		t.Errorf("after a repair, %d payloads are there, want %d", len(o.state), len(want))
	}
}

func mapValues(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
