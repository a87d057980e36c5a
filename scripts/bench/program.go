package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pushrelay/scripts/asunit"
)

// A program is a process that the benchmark started. It is used by one goroutine.
type program struct {
	name    string
	address string // where it serves HTTP
	cmd     *exec.Cmd
	log     string        // file of its output
	done    chan struct{} // closed when it has ended
	err     error         // how it ended; valid once done is closed

	endsBySignal bool // it does nothing about SIGTERM, and ends by it
}

// startProgram starts a program whose output goes to a file in the folder. All of them have the timers that ours have in operation:
// what is compared runs under the same conditions.
func startProgram(dir, name, address, path string, args ...string) (*program, error) {
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	p := &program{name: name, address: address, log: log.Name(), done: make(chan struct{})}
	// Not CommandContext: a program that is interrupted is asked to end like any other.
	p.cmd = exec.Command(path, args...) //nolint:noctx // see above
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := asunit.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() { // ends with the process, which stop waits for
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// stopTimeout is more than a relay needs to drain, and a Pushgateway to write its file.
const stopTimeout = 60 * time.Second

// stop ends the program. It may be called again.
func (p *program) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already: that is told below
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("stopping %s: it did not end within %v", p.name, stopTimeout)
	}
	if p.endsBySignal && p.endedBy(syscall.SIGTERM) {
		return nil
	}
	if p.err != nil {
		return fmt.Errorf("stopping %s: %w", p.name, p.err)
	}
	return nil
}

// endedBy reports whether the signal ended the program. It has ended.
func (p *program) endedBy(signal syscall.Signal) bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}

// until repeats check until it succeeds, as long as the program runs and for a minute at most.
func (p *program) until(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %w", p.name, errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", p.name, errors.Join(ctx.Err(), err))
		case <-ticker.C:
		}
	}
}

func (p *program) waitReady(ctx context.Context) error {
	return p.until(ctx, func(ctx context.Context) error {
		_, err := get(ctx, p.address, "/-/ready")
		return err
	})
}

// residentBytes returns how much memory of the machine the process holds.
func (p *program) residentBytes() (float64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "VmRSS:" || fields[2] != "kB" {
			continue
		}
		kib, err := strconv.ParseFloat(fields[1], 64)
		return kib * 1024, err
	}
	return 0, fmt.Errorf("reading the memory of %s: no VmRSS", p.name)
}

// heapBytes returns what is alive on the heap. Two collections come before: pools keep what they hold over one.
func (p *program) heapBytes(ctx context.Context) (float64, error) {
	var profile []byte
	for range 2 {
		var err error
		if profile, err = get(ctx, p.address, "/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return 0, err
		}
	}
	const mark = "# HeapAlloc = "
	lines := bufio.NewScanner(bytes.NewReader(profile))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if number, ok := strings.CutPrefix(lines.Text(), mark); ok {
			return strconv.ParseFloat(number, 64)
		}
	}
	return 0, fmt.Errorf("reading the heap of %s: the profile has no %q", p.name, mark)
}

// freeAddress returns a loopback address on which nothing listens at the moment.
func freeAddress() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0") // binding waits for nothing
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
