package wal_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pushrelay/internal/wal"
)

// victimDir tells a process that it is to be killed, and where its log is.
const victimDir = "WAL_TEST_VICTIM_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const victimAppenders = 8

// victim appends from several goroutines and tells what was acknowledged, one line each, until it is killed. Snapshots
// go on all the while.
func victim(dir string) error {
	var (
		mu    sync.Mutex // as a store's
		state []string
		out   sync.Mutex
	)
	take := func(p []byte) error {
		state = append(state, string(p))
		return nil
	}
	ctx := context.Background() // It ends with the process.
	l, _, err := wal.Open(ctx, wal.Config{Dir: dir, SegmentBytes: 1 << 18}, wal.Replay{Snapshot: take, Appended: take})
	if err != nil {
		return err
	}
	errs := make(chan error)
	next := len(state)
	for range victimAppenders {
		go func() {
			for {
				mu.Lock()
				next++
				p := fmt.Sprintf("%d %s", next, strings.Repeat("x", next%3000))
				number := next
				wait, err := l.Append([]byte(p))
				state = append(state, p)
				mu.Unlock()
				if err == nil {
					err = wait(ctx)
				}
				if err != nil {
					errs <- err
					return
				}
				out.Lock()
				fmt.Println(number)
				out.Unlock()
			}
		}()
	}
	go func() {
		for {
			mu.Lock()
			s, err := l.Rotate()
			all := slices.Clone(state)
			mu.Unlock()
			for _, p := range all {
				if err == nil {
					err = s.Add([]byte(p))
				}
			}
			if err == nil {
				err = s.Commit(ctx)
			}
			if err != nil {
				errs <- err
				return
			}
		}
	}()
	return <-errs
}

// TestKill kills a process at random moments, ten times: what it acknowledged is there, and all that is there was appended,
// in order.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	random := seeded(uint64(os.Getpid()))
	for round := range 10 {
		acknowledged := runVictim(t, dir, 1+random.IntN(400))
		l, _, got := collect(t, wal.Config{Dir: dir})
		mustClose(t, l)
		for i, p := range got {
			if want := fmt.Sprintf("%d %s", i+1, strings.Repeat("x", (i+1)%3000)); p != want {
				t.Fatalf("round %d: payload %d is %.20q, want %.20q", round, i+1, p, want)
			}
		}
		if most := slices.Max(acknowledged); len(got) < most {
			t.Fatalf("round %d: %d payloads are there, number %d was acknowledged", round, len(got), most)
		}
	}
}

// runVictim kills the process after as many acknowledgements, and returns all of them.
func runVictim(t *testing.T, dir string, lines int) []int {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var acknowledged []int
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		number, err := strconv.Atoi(scanner.Text())
		if err != nil {
			break // The last line may be half of one.
		}
		acknowledged = append(acknowledged, number)
		if len(acknowledged) == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait()
	if len(acknowledged) < lines {
		t.Fatalf("the process ended after %d of %d acknowledgements", len(acknowledged), lines)
	}
	return acknowledged
}
