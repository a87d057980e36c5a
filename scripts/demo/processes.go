package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A program is one that the demo started.
type program struct {
	name string
	cmd  *exec.Cmd
	log  string        // file of its output
	done chan struct{} // closed when it has ended
	err  error         // how it ended; valid once done is closed
}

// start starts a program with a log file of its own. stop ends it.
func (d *demo) start(name, path string, args ...string) error {
	p := &program{name: name, log: filepath.Join(d.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // of a program that is started again, too
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	// Not CommandContext: the programs end in their order, by stop, and not all at once when somebody presses Ctrl-C.
	p.cmd = exec.Command(path, args...) //nolint:noctx // see above
	p.cmd.SysProcAttr = ownGroup()
	p.cmd.Dir = d.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	d.started = append(d.started, p)
	return nil
}

// stopTimeout is more than a relay needs to drain.
const stopTimeout = 30 * time.Second

// stop ends the programs, last started first, and tells whether ours ended cleanly.
func (d *demo) stop() error {
	var errs []error
	for _, p := range slices.Backward(d.started) {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already: that is told below
		select {
		case <-p.done:
		case <-time.After(stopTimeout):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if p.err != nil && strings.HasPrefix(p.name, "relay-") {
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.name, p.err))
		}
	}
	return errors.Join(errs...)
}

// kill ends a program as a power cut does. It may be started again.
func (d *demo) kill(name string) error {
	i := slices.IndexFunc(d.started, func(p *program) bool { return p.name == name })
	if i < 0 {
		return fmt.Errorf("killing %s: it does not run", name)
	}
	p := d.started[i]
	d.started = slices.Delete(d.started, i, i+1)
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("killing %s: %w", name, err)
	}
	<-p.done
	return nil
}

// printLogs shows what the programs said.
func (d *demo) printLogs(w io.Writer) {
	for _, p := range d.started {
		log, err := os.ReadFile(p.log)
		if err != nil {
			continue
		}
		fmt.Fprintf(w, "\n--- log of %s\n%s", p.name, log)
	}
}

// poll repeats check until it succeeds, for 30 seconds at most and only as long as every program runs.
func (d *demo) poll(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		for _, p := range d.started {
			select {
			case <-p.done:
				return fmt.Errorf("%s ended: %w", p.name, errors.Join(p.err, err))
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting: %w", errors.Join(ctx.Err(), err))
		case <-ticker.C:
		}
	}
}

func (d *demo) waitReady(ctx context.Context, url string) error {
	return d.poll(ctx, func() error { _, err := get(ctx, url+"/-/ready"); return err })
}

// httpClient never goes through a proxy: everything is on this machine.
func httpClient() *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

// get returns a page; every status but 200 is an error.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("getting %s: %w", url, err)
	}
	resp, err := httpClient().Do(req)
	if err != nil {
		return "", fmt.Errorf("getting a page: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("getting %s: %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	return string(body), nil
}

// freeAddresses returns loopback addresses on which nothing listens at the moment.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binds loopback and returns at once
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() // only when all are found, so that they differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// linesWith returns the lines of a page that mention a metric family.
func linesWith(page, family string) string {
	var found strings.Builder
	for line := range strings.Lines(page) {
		if strings.Contains(line, family) {
			found.WriteString(line)
		}
	}
	return found.String()
}

func indent(text string) string {
	var indented strings.Builder
	for line := range strings.Lines(text) {
		indented.WriteString("    " + line)
	}
	return indented.String()
}
