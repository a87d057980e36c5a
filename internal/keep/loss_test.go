package keep_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/change"
	"pushrelay/internal/keep"
)

// TestLossStaysVisible kills a relay and damages the last change of its log: the store starts, says at every start that
// something may be lost, under one new id, and stops saying so when somebody has taken note of it, while it runs.
func TestLossStaysVisible(t *testing.T) {
	dir := t.TempDir()
	k := open(t, config(dir))
	k.mustPush(change.Replace, "a", "m 1\n")
	k.mustPush(change.Replace, "b", "sentinel 12345\n")
	id := k.ID()
	killed := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	k.close()
	flip(t, killed, "12345")

	k = open(t, config(killed))
	if got := k.content(); strings.Contains(got, "sentinel") || !strings.Contains(got, `job="a"`) {
		t.Errorf("content:\n%s", got)
	}
	losses := k.Losses()
	if len(losses) != 1 || losses[0].Proven || losses[0].Changes != 1 || !losses[0].After.Equal(noon) {
		t.Errorf("Losses() = %+v, want one change after %v that may have been acknowledged", losses, noon)
	}
	if k.ID() == id {
		t.Error("the store may have lost something and kept its id")
	}
	id = k.ID()
	k.close()
	k = open(t, config(killed))
	defer func() { k.close() }()
	if diff := cmp.Diff(losses, k.Losses()); diff != "" || k.ID() != id {
		t.Errorf("at the next start: id %v, want %v; losses:\n%s", k.ID(), id, diff)
	}
	wantLosses := func(want float64) {
		t.Helper()
		if got := testutil.ToFloat64(gauge(t, k, "relay_store_losses")); got != want {
			t.Errorf("relay_store_losses = %v, want %v", got, want)
		}
	}
	wantLosses(1)
	for _, want := range [][]string{{losses[0].ID}, nil} {
		told, err := keep.AcknowledgeLoss(keep.Place{Dir: killed})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, loss := range told {
			ids = append(ids, loss.ID)
		}
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("AcknowledgeLoss():\n%s", diff)
		}
		wantLosses(0)
	}
	k.close()
	k = open(t, config(killed))
	wantLosses(0)
}

// flip changes a byte of the store's log in the middle of that text.
func flip(t *testing.T, dir, text string) {
	t.Helper()
	for name, content := range (history{dir: dir}).files(t) {
		at := bytes.Index(content, []byte(text))
		if at < 0 {
			continue
		}
		content[at]++
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("the store does not have %q", text)
}

// TestSalvageSnapshot damages one batch of a snapshot of many groups: the others stay, and what is known of the rest is told.
func TestSalvageSnapshot(t *testing.T) {
	const groups = 60
	dir := t.TempDir()
	k := open(t, config(dir))
	for i := range groups {
		k.mustPush(change.Replace, fmt.Sprintf("g%02d", i), fmt.Sprintf("m{number=\"%d\",l=\"%s\"} 1\nn %d\n", i, strings.Repeat("x", 15000), i))
	}
	want := k.groups()
	if err := k.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.close()
	for name, content := range (history{dir: dir}).files(t) {
		if strings.HasSuffix(name, ".snapshot") {
			content[len(content)/2] ^= 1
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := tryOpen(t, config(dir)); err == nil {
		t.Fatal("a damaged snapshot was taken")
	}
	report, err := keep.Repair(t.Context(), keep.Place{Dir: dir})
	if err != nil || report.Loss == nil || !report.Loss.Proven {
		t.Fatalf("Repair() = %+v, %v", report, err)
	}
	k = open(t, config(dir))
	defer k.close()
	if kept := same(k.groups(), want); kept < groups/2 || kept == groups {
		t.Errorf("%d of %d groups are as they were", kept, groups)
	}
	k.mustPush(change.Replace, "after", "p 1\n")
}
