//go:build linux

package house

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
)

// Vitals is what a program has in use, as its own metrics say.
type Vitals struct {
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

// VitalsOf waits until a relay or an agent is at rest, and reads its vitals.
func VitalsOf(t testing.TB, url string) Vitals {
	t.Helper()
	var v Vitals
	same := 0
	client.Eventually(t, 20*time.Second, url+" at rest", func() error {
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
			return fmt.Errorf("%w: %v goroutines, in %d readings one after the other", ErrVitals, now.goroutines, same)
		}
		return nil
	})
	return v
}

func readVitals(url string) (Vitals, error) {
	page, err := client.WantOK(url + "/metrics")
	if err != nil {
		return Vitals{}, err
	}
	all, err := client.SeriesOf(page)
	if err != nil {
		return Vitals{}, err
	}
	v := Vitals{
		url: url, goroutines: all["go_goroutines"], files: all["process_open_fds"],
		heapBytes: all["go_memstats_heap_alloc_bytes"], residentBytes: all["process_resident_memory_bytes"],
	}
	if v.goroutines == 0 || v.files == 0 || v.heapBytes == 0 || v.residentBytes == 0 {
		return Vitals{}, fmt.Errorf("%w: %s/metrics lacks some of go_* or process_*", ErrVitals, url)
	}
	return v, nil
}

// ErrVitals is that a program has not come to rest.
var ErrVitals = errors.New("vitals")

// WantRest waits until a program has no more in use than before the test troubled it.
func (v Vitals) WantRest(t testing.TB) {
	t.Helper()
	client.Eventually(t, 20*time.Second, v.url+" at rest again", func() error {
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
				return fmt.Errorf("%w: %v %s, before it were %v", ErrVitals, used.now, used.what, used.before)
			}
		}
		return nil
	})
}

// DecodeData decodes an answer of the relay's JSON API.
func DecodeData[T any](t testing.TB, body string) []T {
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
