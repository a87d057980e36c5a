//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/need"
)

// damage puts another byte in the place of the first of that text in a file, and returns what the file holds then.
func damage(t *testing.T, file, text string, with byte) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(text))
	if at < 0 {
		t.Fatalf("%s does not hold %q", file, text)
	}
	content[at] = with
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return content
}

// smallDisk mounts a file system of that many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	requireRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", bytes)); err != nil {
		need.Missing(t, "mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}

// noise returns so many letters that no compression makes much smaller.
func noise(letters int) string {
	b := make([]byte, letters)
	for i := range b {
		b[i] = byte('A' + rand.IntN(58))
		if b[i] == '\\' {
			b[i] = '_'
		}
	}
	return string(b)
}

// pushOne pushes one value and returns the status.
func pushOne(t *testing.T, url, job string, value int) int {
	t.Helper()
	resp, err := fetch(http.MethodPut, url+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("full %d\n", value)))
	if err != nil {
		t.Fatal(err)
	}
	return resp.status
}

// TestFullDisk fills the disk under a relay: pushes are refused with 503, scrapes and readiness go on, and once there is
// space again pushes are taken without anybody doing anything. Nothing that was acknowledged is lost (S20).
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 8<<20)
	relay := startRelay(t)
	relay.stop(t)
	relay.dataDir = filepath.Join(disk, "data")
	for i, arg := range relay.command.args {
		if strings.HasPrefix(arg, "--data.dir=") {
			relay.command.args[i] = "--data.dir=" + relay.dataDir
		}
	}
	relay.start(t)
	if got := pushOne(t, relay.url, "before", 1); got != http.StatusOK {
		t.Fatalf("a push before: %d", got)
	}

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	acknowledged := 1
	// The space that the log has set aside may take some more.
	eventually(t, 20*time.Second, "a push is refused", func() error {
		switch got := pushOne(t, relay.url, "during", acknowledged+1); got {
		case http.StatusOK:
			acknowledged++
			resp, err := fetch(http.MethodPut, relay.url+"/metrics/job/large", strings.NewReader("m{l=\""+noise(16000)+"\"} 1\n"))
			return fmt.Errorf("the push was taken, and a large one: %d %w", resp.status, err)
		case http.StatusServiceUnavailable:
			return nil
		default:
			t.Fatalf("a push on a full disk: %d, want 503", got)
			return nil
		}
	})
	if resp, err := fetch(http.MethodPut, relay.url+"/metrics/job/during", strings.NewReader("full 1\n")); err != nil ||
		resp.status != http.StatusServiceUnavailable || resp.header.Get("Retry-After") == "" || !strings.Contains(resp.body, "cannot be written") {
		t.Errorf("a push on a full disk: %+v, %v; want 503 with Retry-After and the reason", resp, err)
	}
	wantSeries(t, relay.url, `full{instance="", job="before"}`, 1)
	wantSeries(t, relay.url, "relay_store_writable", 0)
	if page := mustGet(t, relay.url+"/-/ready"); !strings.Contains(page, "cannot be changed") {
		t.Errorf("/-/ready on a full disk: %q", page)
	}
	// Also a start on the full disk serves what there is.
	relay.kill(t)
	relay.start(t)
	wantSeries(t, relay.url, `full{instance="", job="before"}`, 1)
	if got := pushOne(t, relay.url, "during", 7); got != http.StatusServiceUnavailable {
		t.Errorf("a push after a start on a full disk: %d, want 503", got)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "pushes are taken again", func() error {
		if got := pushOne(t, relay.url, "after", 2); got != http.StatusOK {
			return fmt.Errorf("status %d", got)
		}
		return nil
	})
	wantSeries(t, relay.url, "relay_store_writable", 1)
	relay.kill(t)
	relay.start(t)
	wantSeries(t, relay.url, `full{instance="", job="before"}`, 1)
	wantSeries(t, relay.url, `full{instance="", job="after"}`, 2)
	relay.stop(t)
}

// TestDamageAndRepair flips a byte in the middle of the log. The relay refuses to start and says how it goes on; the repair
// keeps the rest.
func TestDamageAndRepair(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	for i, job := range []string{"one", "two", "three"} {
		if got := pushOne(t, relay.url, job, 1000+i); got != http.StatusOK {
			t.Fatalf("PUT %s: %d", job, got)
		}
	}
	relay.kill(t)
	segment := filepath.Join(relay.dataDir, "store", "0000000000000001.log")
	damage(t, segment, "1001\n", '7')

	refused := output(t, relay.command)
	if refused.code != 1 {
		t.Errorf("a start from a damaged log: exit code %d, want 1", refused.code)
	}
	for _, part := range []string{segment, "at offset", "relay-server repair --data.dir"} {
		if !strings.Contains(refused.stderr, part) {
			t.Errorf("the refusal does not say %q:\n%s", part, refused.stderr)
		}
	}
	repaired := mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + relay.dataDir, "repair"}})
	for _, part := range []string{"set aside as it was: " + segment, "missing: batches"} {
		if !strings.Contains(repaired, part) {
			t.Errorf("the repair does not say %q:\n%s", part, repaired)
		}
	}
	relay.start(t)
	wantSeries(t, relay.url, `full{instance="", job="one"}`, 1000)
	wantSeries(t, relay.url, `full{instance="", job="three"}`, 1002)
	wantNoSeries(t, relay.url, `full{instance="", job="two"}`)
	if again := mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + startRelay(t).stopped(t), "repair"}}); !strings.Contains(again, "not damaged") {
		t.Errorf("the repair of a sound store says:\n%s", again)
	}
	relay.stop(t)
}

// stopped stops a relay and returns its data dir.
func (r *relay) stopped(t testing.TB) string {
	t.Helper()
	r.stop(t)
	return r.dataDir
}

// tear makes the last batch of a segment one of which only the first half came to the disk: behind it is what the segment was
// filled with ahead, as it had been before.
func tear(t *testing.T, segment string) {
	t.Helper()
	const header, batchHeader, salt, length = 48, 40, 32, 32
	content, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := 0, header
	for bytes.Equal(content[end:end+8], content[salt:salt+8]) {
		begin, end = end, end+batchHeader+int(binary.LittleEndian.Uint32(content[end+length:]))
	}
	if begin == 0 {
		t.Fatalf("%s has no batch", segment)
	}
	for i := (begin + end) / 2; i < end; i++ {
		content[i] = ^content[salt+i%8]
	}
	if err := os.WriteFile(segment, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTornTail leaves half of its last batch in the log, as a power cut does: the rest is served, and the tail is kept aside.
func TestTornTail(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	pushOne(t, relay.url, "one", 1)
	pushOne(t, relay.url, "two", 2)
	relay.kill(t)
	segment := filepath.Join(relay.dataDir, "store", "0000000000000001.log")
	tear(t, segment)
	relay.start(t)
	wantSeries(t, relay.url, `full{instance="", job="one"}`, 1)
	wantNoSeries(t, relay.url, `full{instance="", job="two"}`)
	tails, err := filepath.Glob(segment + ".tail-*")
	if err != nil || len(tails) != 1 {
		t.Errorf("tails saved aside: %q, %v", tails, err)
	}
	if !strings.Contains(relay.log.String(), "torn tail") {
		t.Error("the log does not tell of the torn tail")
	}
	wantSeries(t, relay.url, "relay_store_losses", 0)
	relay.stop(t)
}

// TestBackup takes a backup of a running relay and starts another from it.
func TestBackup(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	pushOne(t, relay.url, "one", 1)
	file := filepath.Join(t.TempDir(), "relay.backup")
	said := mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + relay.dataDir, "backup", "--to=" + file}})
	if !strings.Contains(said, "1 group, 1 series") {
		t.Errorf("backup says %q", said)
	}
	pushOne(t, relay.url, "two", 2)
	if over := output(t, command{path: programs.relayServer, args: []string{"--data.dir=" + relay.dataDir, "restore", "--from=" + file}}); over.code != 1 ||
		!strings.Contains(over.stderr, "in use") {
		t.Errorf("restore into a running relay: exit code %d\n%s", over.code, over.stderr)
	}

	other := startRelay(t)
	other.stop(t)
	other.loseStore(t)
	damaged := filepath.Join(t.TempDir(), "damaged")
	writeFile(t, damaged, readFile(t, file)[:100])
	if said := output(t, command{path: programs.relayServer, args: []string{"--data.dir=" + other.dataDir, "restore", "--from=" + damaged}}); said.code != 1 ||
		!strings.Contains(said.stderr, damaged) || !strings.Contains(said.stderr, "restore another backup") || strings.Contains(said.stderr, "repair") {
		t.Errorf("restore of a damaged file: exit code %d\n%s", said.code, said.stderr)
	}
	mustOutput(t, command{path: programs.relayServer, args: []string{"--data.dir=" + other.dataDir, "restore", "--from=" + file}})
	other.start(t)
	wantSeries(t, other.url, `full{instance="", job="one"}`, 1)
	wantNoSeries(t, other.url, `full{instance="", job="two"}`)
	other.stop(t)
	relay.stop(t)
}

// TestKilledBackup kills a backup in its middle, which is where a pipe among the files of the log holds it up. The next one
// leaves nothing of it, nor does the start of a relay.
func TestKilledBackup(t *testing.T) {
	t.Parallel()
	relay := startRelay(t)
	pushOne(t, relay.url, "one", 1)
	relay.stop(t)
	pipe := filepath.Join(relay.dataDir, "store", "0000000000009999.log")
	args := []string{"--data.dir=" + relay.dataDir, "backup", "--to=" + filepath.Join(relay.dataDir, "backup")}
	leftovers := func() []string {
		left, err := filepath.Glob(filepath.Join(relay.dataDir, ".backup-*"))
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	killOne := func() {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		backup := start(t, command{path: programs.relayServer, args: args})
		eventually(t, patience, "the backup has copied something", func() error {
			if copied, _ := filepath.Glob(filepath.Join(relay.dataDir, ".backup-*", "*", "*.log")); len(copied) == 0 {
				return errNothingCopied
			}
			return nil
		})
		backup.kill(t)
		if len(leftovers()) == 0 {
			t.Error("a killed backup left nothing behind, which this test is about")
		}
		if err := os.Remove(pipe); err != nil {
			t.Fatal(err)
		}
	}
	killOne()
	mustOutput(t, command{path: programs.relayServer, args: args})
	if left := leftovers(); len(left) > 0 {
		t.Errorf("after another backup there is %q", left)
	}
	killOne()
	relay.start(t)
	if left := leftovers(); len(left) > 0 {
		t.Errorf("after the start there is %q", left)
	}
	relay.stop(t)
}

var errNothingCopied = errors.New("nothing is copied yet")
