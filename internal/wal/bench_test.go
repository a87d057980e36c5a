package wal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/wal"
)

// payloadBytes is what a push of 100 series is in the store's log: its values.
const payloadBytes = 1100

// BenchmarkAppend measures durable appends from several goroutines, beside what the disk needs for one sync: the median of
// the log's own syncs, and that of a bare file that is written over.
func BenchmarkAppend(b *testing.B) {
	for _, appenders := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("appenders=%d", appenders), func(b *testing.B) {
			bare := bareSync(b)
			var (
				mu    sync.Mutex
				syncs []time.Duration
			)
			l, _, _ := collect(b, wal.Config{Dir: b.TempDir(), ObserveSync: func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				syncs = append(syncs, d)
			}})
			payload := []byte(strings.Repeat("x", payloadBytes))
			b.SetBytes(payloadBytes)
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var done sync.WaitGroup
			b.ResetTimer()
			for range appenders {
				done.Go(func() {
					for left.Add(-1) >= 0 {
						wait, err := l.Append(payload)
						if err == nil {
							err = wait(b.Context())
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			done.Wait()
			b.StopTimer()
			mustClose(b, l)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(micros(median(syncs)), "sync-p50-µs")
			b.ReportMetric(micros(bare), "bare-sync-p50-µs")
			b.ReportMetric(float64(b.N)/float64(len(syncs)), "appends/sync")
		})
	}
}

// bareSync returns the median time that the disk takes for the bytes of one batch, without a log.
func bareSync(b *testing.B) time.Duration {
	b.Helper()
	path := filepath.Join(b.TempDir(), "bare")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	var syncs []time.Duration
	f, err := wal.OpenFile(path)
	if err == nil {
		defer f.Close()
		err = f.Sync()
	}
	payload := make([]byte, payloadBytes)
	for at := range 500 {
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if _, err = f.WriteAt(payload, int64(at*payloadBytes)); err == nil {
			err = f.Sync()
		}
		syncs = append(syncs, time.Since(began))
	}
	return median(syncs)
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// BenchmarkRecovery measures how fast a log of many batches is read, with a warm cache.
func BenchmarkRecovery(b *testing.B) {
	cfg := wal.Config{Dir: b.TempDir()}
	l, _, _ := collect(b, cfg)
	payload := []byte(strings.Repeat("x", payloadBytes))
	const appended = 100_000
	for range appended {
		if _, err := l.Append(payload); err != nil {
			b.Fatal(err)
		}
	}
	mustClose(b, l)
	b.SetBytes(appended * payloadBytes)
	for b.Loop() {
		n := 0
		l, _, err := wal.Open(b.Context(), cfg, wal.Replay{Appended: func([]byte) error { n++; return nil }})
		if err != nil || n != appended {
			b.Fatalf("Open() = %d payloads, %v", n, err)
		}
		mustClose(b, l)
	}
}

// BenchmarkSnapshot measures a durable snapshot of 1M series in 10,000 groups, and what is appended meanwhile.
func BenchmarkSnapshot(b *testing.B) {
	l, _, _ := collect(b, wal.Config{Dir: b.TempDir()})
	payload := []byte(strings.Repeat("x", 10*payloadBytes))
	const groups = 10_000
	b.SetBytes(groups * int64(len(payload)))
	for b.Loop() {
		s, err := l.Rotate()
		if err != nil {
			b.Fatal(err)
		}
		for range groups {
			if err := s.Add(payload); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppendDuringSnapshot measures what a snapshot costs those who append meanwhile.
func BenchmarkAppendDuringSnapshot(b *testing.B) {
	for _, busy := range []string{"idle", "snapshots"} {
		b.Run(busy, func(b *testing.B) {
			l, _, _ := collect(b, wal.Config{Dir: b.TempDir()})
			stop := make(chan struct{})
			var done sync.WaitGroup
			if busy == "snapshots" {
				done.Go(func() { snapshotUntil(b, l, stop) })
			}
			payload := []byte(strings.Repeat("x", payloadBytes))
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				appendAndWait(b, l, string(payload))
				took = append(took, time.Since(began))
			}
			close(stop)
			done.Wait()
			slices.Sort(took)
			b.ReportMetric(micros(took[len(took)/2]), "p50-µs")
			b.ReportMetric(micros(took[len(took)*99/100]), "p99-µs")
		})
	}
}

// snapshotUntil takes one snapshot of 110 MB after the other.
func snapshotUntil(b *testing.B, l *wal.Log, stop <-chan struct{}) {
	b.Helper()
	payload := []byte(strings.Repeat("x", 10*payloadBytes))
	for {
		s, err := l.Rotate()
		for range 10_000 {
			if err == nil {
				err = s.Add(payload)
			}
		}
		if err == nil {
			err = s.Commit(b.Context())
		}
		if err != nil {
			b.Error(err)
			return
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}
