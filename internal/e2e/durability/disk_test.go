//go:build linux

package durability_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/faultdisk"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestFullDisk fills the disk under a relay: pushes are refused with 503, scrapes and readiness go on, and once there is
// space again pushes are taken without anybody doing anything. Nothing that was acknowledged is lost (S20).
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := faultdisk.SmallDisk(t, 8<<20)
	relay := house.StartRelay(t)
	relay.Stop(t)
	relay.DataDir = filepath.Join(disk, "data")
	for i, arg := range relay.Command.Args {
		if strings.HasPrefix(arg, "--data.dir=") {
			relay.Command.Args[i] = "--data.dir=" + relay.DataDir
		}
	}
	relay.Start(t)
	if got := client.PushOne(t, relay.URL, "before", 1); got != http.StatusOK {
		t.Fatalf("a push before: %d", got)
	}

	ballast := filepath.Join(disk, "ballast")
	faultdisk.Fill(t, ballast)
	acknowledged := 1
	// The space that the log has set aside may take some more.
	client.Eventually(t, 20*time.Second, "a push is refused", func() error {
		switch got := client.PushOne(t, relay.URL, "during", acknowledged+1); got {
		case http.StatusOK:
			acknowledged++
			resp, err := client.Fetch(http.MethodPut, relay.URL+"/metrics/job/large", strings.NewReader("m{l=\""+faultdisk.Noise(16000)+"\"} 1\n"))
			return fmt.Errorf("the push was taken, and a large one: %d %w", resp.Status, err)
		case http.StatusServiceUnavailable:
			return nil
		default:
			t.Fatalf("a push on a full disk: %d, want 503", got)
			return nil
		}
	})
	if resp, err := client.Fetch(http.MethodPut, relay.URL+"/metrics/job/during", strings.NewReader("full 1\n")); err != nil ||
		resp.Status != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(resp.Body, "cannot be written") {
		t.Errorf("a push on a full disk: %+v, %v; want 503 with Retry-After and the reason", resp, err)
	}
	client.WantSeries(t, relay.URL, `full{instance="", job="before"}`, 1)
	client.WantSeries(t, relay.URL, "relay_store_writable", 0)
	if page := client.MustGet(t, relay.URL+"/-/ready"); !strings.Contains(page, "cannot be changed") {
		t.Errorf("/-/ready on a full disk: %q", page)
	}
	// Also a start on the full disk serves what there is.
	relay.Kill(t)
	relay.Start(t)
	client.WantSeries(t, relay.URL, `full{instance="", job="before"}`, 1)
	if got := client.PushOne(t, relay.URL, "during", 7); got != http.StatusServiceUnavailable {
		t.Errorf("a push after a start on a full disk: %d, want 503", got)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, 20*time.Second, "pushes are taken again", func() error {
		if got := client.PushOne(t, relay.URL, "after", 2); got != http.StatusOK {
			return fmt.Errorf("status %d", got)
		}
		return nil
	})
	client.WantSeries(t, relay.URL, "relay_store_writable", 1)
	relay.Kill(t)
	relay.Start(t)
	client.WantSeries(t, relay.URL, `full{instance="", job="before"}`, 1)
	client.WantSeries(t, relay.URL, `full{instance="", job="after"}`, 2)
	relay.Stop(t)
}

// TestDamageAndRepair flips a byte in the middle of the log. The relay refuses to start and says how it goes on; the repair
// keeps the rest.
func TestDamageAndRepair(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	for i, job := range []string{"one", "two", "three"} {
		if got := client.PushOne(t, relay.URL, job, 1000+i); got != http.StatusOK {
			t.Fatalf("PUT %s: %d", job, got)
		}
	}
	relay.Kill(t)
	segment := filepath.Join(relay.DataDir, "store", "0000000000000001.log")
	faultdisk.Damage(t, segment, "1001\n", '7')

	refused := program.Output(t, relay.Command)
	if refused.Code != 1 {
		t.Errorf("a start from a damaged log: exit code %d, want 1", refused.Code)
	}
	for _, part := range []string{segment, "at offset", "relay-server repair --data.dir"} {
		if !strings.Contains(refused.Stderr, part) {
			t.Errorf("the refusal does not say %q:\n%s", part, refused.Stderr)
		}
	}
	repaired := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + relay.DataDir, "repair"}})
	for _, part := range []string{"set aside as it was: " + segment, "missing: batches"} {
		if !strings.Contains(repaired, part) {
			t.Errorf("the repair does not say %q:\n%s", part, repaired)
		}
	}
	relay.Start(t)
	client.WantSeries(t, relay.URL, `full{instance="", job="one"}`, 1000)
	client.WantSeries(t, relay.URL, `full{instance="", job="three"}`, 1002)
	client.WantNoSeries(t, relay.URL, `full{instance="", job="two"}`)
	if again := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + house.StartRelay(t).Stopped(t), "repair"}}); !strings.Contains(again, "not damaged") {
		t.Errorf("the repair of a sound store says:\n%s", again)
	}
	relay.Stop(t)
}

// TestTornTail leaves half of its last batch in the log, as a power cut does: the rest is served, and the tail is kept aside.
func TestTornTail(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	client.PushOne(t, relay.URL, "one", 1)
	client.PushOne(t, relay.URL, "two", 2)
	relay.Kill(t)
	segment := filepath.Join(relay.DataDir, "store", "0000000000000001.log")
	faultdisk.Tear(t, segment)
	relay.Start(t)
	client.WantSeries(t, relay.URL, `full{instance="", job="one"}`, 1)
	client.WantNoSeries(t, relay.URL, `full{instance="", job="two"}`)
	tails, err := filepath.Glob(segment + ".tail-*")
	if err != nil || len(tails) != 1 {
		t.Errorf("tails saved aside: %q, %v", tails, err)
	}
	if !strings.Contains(relay.Log.String(), "torn tail") {
		t.Error("the log does not tell of the torn tail")
	}
	client.WantSeries(t, relay.URL, "relay_store_losses", 0)
	relay.Stop(t)
}

// TestBackup takes a backup of a running relay and starts another from it.
func TestBackup(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	client.PushOne(t, relay.URL, "one", 1)
	file := filepath.Join(t.TempDir(), "relay.backup")
	said := program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + relay.DataDir, "backup", "--to=" + file}})
	if !strings.Contains(said, "1 group, 1 series") {
		t.Errorf("backup says %q", said)
	}
	client.PushOne(t, relay.URL, "two", 2)
	if over := program.Output(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + relay.DataDir, "restore", "--from=" + file}}); over.Code != 1 ||
		!strings.Contains(over.Stderr, "in use") {
		t.Errorf("restore into a running relay: exit code %d\n%s", over.Code, over.Stderr)
	}

	other := house.StartRelay(t)
	other.Stop(t)
	other.LoseStore(t)
	damaged := filepath.Join(t.TempDir(), "damaged")
	client.WriteFile(t, damaged, client.ReadFile(t, file)[:100])
	if said := program.Output(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + other.DataDir, "restore", "--from=" + damaged}}); said.Code != 1 ||
		!strings.Contains(said.Stderr, damaged) || !strings.Contains(said.Stderr, "restore another backup") || strings.Contains(said.Stderr, "repair") {
		t.Errorf("restore of a damaged file: exit code %d\n%s", said.Code, said.Stderr)
	}
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + other.DataDir, "restore", "--from=" + file}})
	other.Start(t)
	client.WantSeries(t, other.URL, `full{instance="", job="one"}`, 1)
	client.WantNoSeries(t, other.URL, `full{instance="", job="two"}`)
	other.Stop(t)
	relay.Stop(t)
}

// TestKilledBackup kills a backup in its middle, which is where a pipe among the files of the log holds it up. The next one
// leaves nothing of it, nor does the start of a relay.
func TestKilledBackup(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	client.PushOne(t, relay.URL, "one", 1)
	relay.Stop(t)
	pipe := filepath.Join(relay.DataDir, "store", "0000000000009999.log")
	args := []string{"--data.dir=" + relay.DataDir, "backup", "--to=" + filepath.Join(relay.DataDir, "backup")}
	leftovers := func() []string {
		left, err := filepath.Glob(filepath.Join(relay.DataDir, ".backup-*"))
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	killOne := func() {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		backup := program.Start(t, program.Command{Path: program.RelayServer(), Args: args})
		client.Eventually(t, client.Patience, "the backup has copied something", func() error {
			if copied, _ := filepath.Glob(filepath.Join(relay.DataDir, ".backup-*", "*", "*.log")); len(copied) == 0 {
				return errNothingCopied
			}
			return nil
		})
		backup.Kill(t)
		if len(leftovers()) == 0 {
			t.Error("a killed backup left nothing behind, which this test is about")
		}
		if err := os.Remove(pipe); err != nil {
			t.Fatal(err)
		}
	}
	killOne()
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: args})
	if left := leftovers(); len(left) > 0 {
		t.Errorf("after another backup there is %q", left)
	}
	killOne()
	relay.Start(t)
	if left := leftovers(); len(left) > 0 {
		t.Errorf("after the start there is %q", left)
	}
	relay.Stop(t)
}

var errNothingCopied = errors.New("nothing is copied yet")
