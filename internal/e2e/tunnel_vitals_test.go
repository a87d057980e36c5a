//go:build linux

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vitals is what a program has in use, as its own metrics say.
type vitals struct {
	url                      string
	goroutines, files        float64
	heapBytes, residentBytes float64
}

// What a program may have in use beyond its baseline: connections that are being closed, garbage of the test's own
// requests. A leak, in a test that repeats what it does, is a multiple of it.
const (
	moreGoroutines = 3
	moreFiles      = 3
	moreHeap       = 48 << 20
	moreResident   = 128 << 20
)

// settledReadings are as many readings as have the same goroutines of a program at rest: one that has just become ready may not have
// started all of them.
const settledReadings = 6

// vitalsOf waits until a relay or an agent is at rest, and reads its vitals.
func vitalsOf(t testing.TB, url string) vitals {
	t.Helper()
	var v vitals
	same := 0
	eventually(t, 20*time.Second, url+" at rest", func() error {
		now, err := readVitals(url)
		if err != nil {
			return err
		}
		same++
		if now.goroutines != v.goroutines {
			same = 1
		}
		v = now
		if same < settledReadings {
			return fmt.Errorf("%w: %v goroutines, in %d readings one after the other", errVitals, now.goroutines, same)
		}
		return nil
	})
	return v
}

func readVitals(url string) (vitals, error) {
	page, err := wantOK(url + "/metrics")
	if err != nil {
		return vitals{}, err
	}
	all, err := seriesOf(page)
	if err != nil {
		return vitals{}, err
	}
	v := vitals{
		url: url, goroutines: all["go_goroutines"], files: all["process_open_fds"],
		heapBytes: all["go_memstats_heap_alloc_bytes"], residentBytes: all["process_resident_memory_bytes"],
	}
	if v.goroutines == 0 || v.files == 0 || v.heapBytes == 0 || v.residentBytes == 0 {
		return vitals{}, fmt.Errorf("%w: %s/metrics lacks some of go_* or process_*", errVitals, url)
	}
	return v, nil
}

var errVitals = errors.New("vitals")

// wantRest waits until a program has no more in use than before the test troubled it.
func (v vitals) wantRest(t testing.TB) {
	t.Helper()
	eventually(t, 20*time.Second, v.url+" at rest again", func() error {
		now, err := readVitals(v.url)
		if err != nil {
			return err
		}
		for _, used := range []struct {
			what              string
			now, before, more float64
		}{
			{"goroutines", now.goroutines, v.goroutines, moreGoroutines},
			{"open files", now.files, v.files, moreFiles},
			{"bytes of heap", now.heapBytes, v.heapBytes, moreHeap},
			{"bytes of memory", now.residentBytes, v.residentBytes, moreResident},
		} {
			if used.now > used.before+used.more {
				return fmt.Errorf("%w: %v %s, before it were %v", errVitals, used.now, used.what, used.before)
			}
		}
		return nil
	})
}

// peakBytes is the most memory that a process ever had.
func (p *process) peakBytes(t testing.TB) int64 {
	t.Helper()
	return p.statusBytes(t, "VmHWM:")
}

// statusBytes reads a size from /proc/PID/status; the name is with its colon.
func (p *process) statusBytes(t testing.TB, name string) int64 {
	t.Helper()
	for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))) {
		if kilobytes, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kilobytes), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s of %s", name, p.name)
	return 0
}

// decodeData decodes an answer of the relay's JSON API.
func decodeData[T any](t testing.TB, body string) []T {
	t.Helper()
	var page struct {
		Status string
		Data   []T
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || page.Status != "success" {
		t.Fatalf("decoding %v\n%s", err, body)
	}
	return page.Data
}
