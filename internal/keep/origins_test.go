package keep_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
	"pushrelay/internal/waltest"
)

// A sent is a change that somebody numbered.
type sent struct {
	op       change.Operation
	job      string
	text     string
	sequence uint64
}

// send sends it, now or again.
func (k *keeper) send(c sent) (duplicate bool, err error) {
	k.tb.Helper()
	var parser exposition.Parser
	body, err := parser.ParseText([]byte(c.text), exposition.Options{})
	if err != nil {
		k.tb.Fatal(err)
	}
	p := &change.Change{
		Operation: c.op, Key: key(k.tb, c.job), At: noon.Add(time.Duration(c.sequence) * time.Second), Agent: "site",
		Origin: &change.Origin{Journal: journal, Sequence: c.sequence, Digest: [16]byte{byte(c.sequence)}},
	}
	content := groupstore.Content{Body: body}
	switch c.op {
	case change.Fail:
		content = groupstore.Content{Fault: "the agent says so"}
	case change.Mark:
		p.Operation, p.Refused = change.Replace, change.Refuse(change.TooLarge, "refused on its way")
	}
	o, _ := k.Store().Apply(k.tb.Context(), p, content)
	if err := o.Err(); !errors.Is(err, change.Inconsistent) && !errors.Is(err, change.TooLarge) {
		return o.Duplicate, err
	}
	return o.Duplicate, nil
}

var journal = [16]byte([]byte("the site journal"))

// allOf is one of everything, such that a change that takes effect twice or never is seen in the end.
var allOf = []sent{
	{change.Replace, "a", "m 1\nn 1\n", 1},
	{change.Replace, "b", "m 2\n", 2},
	{change.Merge, "a", "n 3\no 3\n", 3},
	{change.Delete, "b", "", 4},
	{change.Replace, "c", "m 5 1000\n", 5}, // rejected, with a failure time
	{change.Fail, "a", "", 6},
	{change.Replace, "d", "m 7\n", 7},
	{change.Mark, "e", "", 8},
	{change.Merge, "d", "n 9\n", 9},
	{change.Replace, "a", "p 10\n", 10},
	{change.Delete, "d", "", 11},
	{change.Delete, "never", "", 12},
	{change.Merge, "d", "q 13\n", 13},
}

// sendAll sends all of them and returns how many were duplicates.
func (k *keeper) sendAll() (duplicates int) {
	k.tb.Helper()
	for _, c := range allOf {
		again, err := k.send(c)
		if err != nil {
			k.tb.Fatalf("%+v: %v", c, err)
		}
		if again {
			duplicates++
		}
	}
	return duplicates
}

// wantAll checks that all of them took effect, each once, and are still known.
func (k *keeper) wantAll(what, content string) {
	k.tb.Helper()
	if n := k.sendAll(); n != len(allOf) {
		k.tb.Errorf("%s: %d of %d are known", what, n, len(allOf))
	}
	if diff := cmp.Diff(content, k.content()); diff != "" {
		k.tb.Errorf("%s: content (-want +got):\n%s", what, diff)
	}
	sequence, digest, ok := k.Store().Decided("site", journal)
	if !ok || sequence != 13 || digest != [16]byte{13} {
		k.tb.Errorf("%s: Decided = %d, %x, %v", what, sequence, digest, ok)
	}
}

// TestOnceOverRestarts: by the log, by snapshots, and by a backup, which keeps the marks and not the id (T18).
func TestOnceOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t.TempDir())
		k := open(t, cfg)
		if n := k.sendAll(); n != 0 {
			t.Fatalf("%d duplicates at first", n)
		}
		content, id := k.content(), k.ID()
		k.wantAll("at once", content)
		k.close()

		k = open(t, cfg)
		k.wantAll("by the log", content)
		k.close()

		cfg.SnapshotFloorBytes = 1
		k = open(t, cfg)
		stop := k.run(t)
		time.Sleep(5 * time.Second)
		stop()
		k.close()
		k = open(t, cfg)
		k.wantAll("by a snapshot", content)
		backup := filepath.Join(t.TempDir(), "backup")
		if _, err := keep.Backup(t.Context(), keep.Place{Dir: cfg.Dir, NoLock: true}, nil, backup); err != nil {
			t.Fatal(err)
		}
		k.Store().Apply(t.Context(), &change.Change{Operation: change.Forget, Agent: "site", Origin: &change.Origin{Journal: journal, Sequence: 99}}, groupstore.Content{})
		traces := k.Store().Stats().Traces
		k.close()
		k = open(t, cfg)
		if got := k.Store().Stats().Traces; got != traces || got != 0 {
			t.Errorf("%d traces came back", got)
		}
		if k.ID() != id {
			t.Error("the store has another id")
		}
		k.close()

		target := config(filepath.Join(t.TempDir(), "restored"))
		if _, err := keep.Restore(t.Context(), keep.Place{Dir: target.Dir}, backup, nil); err != nil {
			t.Fatal(err)
		}
		k = open(t, target)
		defer k.close()
		if k.ID() == id {
			t.Error("the restored store has the id of the other")
		}
		k.wantAll("by a backup", content)
	})
}

// TestOnceOverTornTails ends the log within every record, as a crash does. What is sent again completes it: nothing takes effect
// twice, nothing that was acknowledged is unknown.
func TestOnceOverTornTails(t *testing.T) {
	memory := waltest.NewMemory(memoryDir, nil)
	cfg := smallSegments(memoryDir)
	cfg.FS, cfg.SegmentBytes = memory, 64<<10
	k := open(t, cfg)
	k.sendAll()
	content := k.content()
	files := memory.Files(memoryDir) // as a kill leaves them
	k.close()
	const segment = "0000000000000001.log"
	whole := files[segment]
	end := written(whole)
	step := 5
	if testing.Short() {
		step = 17
	}
	seen := map[int]bool{}
	for cut := headerBytes; cut < end; cut += step {
		torn := bytes.Clone(whole)
		unwrite(torn, cut, end)
		files[segment] = torn
		cfg.FS = waltest.NewMemory(memoryDir, files)
		k := open(t, cfg)
		seen[k.sendAll()] = true
		k.wantAll(fmt.Sprintf("cut off at %d", cut), content)
		k.close()
	}
	if len(seen) != len(allOf) {
		t.Errorf("logs of %d lengths were seen, want one for each change that the cut ends before: %v", len(seen), seen)
	}
}

// What is known here of the format of a segment.
const (
	headerBytes      = 48
	batchHeaderBytes = 40
	saltAt           = 32
	lengthAt         = 32
)

// written returns where the last batch of a segment ends.
func written(segment []byte) int {
	end := headerBytes
	for bytes.Equal(segment[end:end+8], segment[saltAt:saltAt+8]) {
		end += batchHeaderBytes + int(binary.LittleEndian.Uint32(segment[end+lengthAt:]))
	}
	return end
}

// unwrite makes a part of a segment what it was before anything was written there.
func unwrite(segment []byte, from, to int) {
	for i := from; i < to; i++ {
		segment[i] = ^segment[saltAt+i%8]
	}
}

// TestOnceOverAFullDisk: what is in doubt is a duplicate that is not answered before it is durable, and is answered then.
func TestOnceOverAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		cfg := config(t.TempDir())
		cfg.FS = d
		k := open(t, cfg)
		stop := k.run(t)
		d.full.Store(true)
		if _, err := k.send(allOf[0]); !isInDoubt(err) {
			t.Fatalf("the change that meets the full disk = %v", err)
		}
		if _, err := k.send(allOf[0]); !isUnwritable(err) {
			t.Errorf("again, while the disk is full = %v", err)
		}
		d.full.Store(false)
		time.Sleep(11 * time.Second)
		if again, err := k.send(allOf[0]); !again || err != nil {
			t.Errorf("again, with space = %v, %v", again, err)
		}
		content := k.content()
		stop()
		k.close()
		k = open(t, config(cfg.Dir))
		defer k.close()
		if diff := cmp.Diff(content, k.content()); diff != "" || !strings.Contains(content, `{job="a"}`) {
			t.Errorf("content (-want +got):\n%s", diff)
		}
	})
}

// TestRepairDropsMarks: where changes are lost, no mark of a later change says that they were decided.
func TestRepairDropsMarks(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	lost, kept := sent{change.Replace, "a", "sentinel 12345\n", 1}, sent{change.Merge, "a", "n 2\n", 2}
	gone := sent{change.Delete, "b", "", 3}
	for _, c := range []sent{lost, kept, gone} {
		if _, err := k.send(c); err != nil {
			t.Fatal(err)
		}
	}
	content := k.content()
	k.close()
	path := filepath.Join(dir, "0000000000000001.log")
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(written, []byte("12345"), []byte("12346"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keep.Repair(t.Context(), keep.Place{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second start has the snapshot of the first
		k = open(t, config(dir))
		if _, _, ok := k.Store().Decided("site", journal); ok || k.Store().Stats().Traces != 0 {
			t.Error("marks are left although changes are lost")
		}
		k.close()
	}
	k = open(t, config(dir))
	defer k.close()
	for _, c := range []sent{lost, kept, gone} {
		if again, err := k.send(c); again || err != nil {
			t.Errorf("%+v sent to the store that lost it = %v, %v", c, again, err)
		}
	}
	if diff := cmp.Diff(content, k.content()); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}
