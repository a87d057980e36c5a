package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pushrelay/scripts/asunit"
)

// relay is a relay-server process.
type relay struct {
	binary, dir string
	grpcAddress string
	httpAddress string
	process     *exec.Cmd
}

// start starts the relay and waits until it is ready. The ports of the first start are used again.
func (r *relay) start(ctx context.Context) error {
	if r.grpcAddress == "" {
		var err error
		if r.grpcAddress, err = freeAddress(ctx); err != nil {
			return err
		}
		if r.httpAddress, err = freeAddress(ctx); err != nil {
			return err
		}
	}
	r.process = exec.CommandContext(ctx, r.binary, "--data.dir="+filepath.Join(r.dir, "data"), "--web.listen-address="+r.httpAddress,
		"--grpc.listen-address="+r.grpcAddress, "--grpc.tls.server-name=127.0.0.1", "--log.level=error", "--web.enable-lifecycle") // the lifecycle lets profiles be taken
	r.process.Stderr = os.Stderr
	if err := asunit.Start(r.process); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if r.ready(ctx) {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the relay does not get ready")
}

// token makes a join token for the whole fleet.
func (r *relay) token(ctx context.Context, uses int) (string, error) {
	command := exec.CommandContext(ctx, r.binary, "--data.dir="+filepath.Join(r.dir, "data"), "agents", "token", "--name-prefix=agent-", "--uses="+strconv.Itoa(uses), "--relay.address="+r.grpcAddress)
	text, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	return string(text), nil
}

// ready reports whether the relay says so. It listens before it has an authority, which agents need.
func (r *relay) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.httpAddress+"/-/ready", http.NoBody)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // each relay is killed in the end
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// kill ends the relay as a crash does.
func (r *relay) kill() {
	if r.process != nil && r.process.Process != nil {
		r.process.Process.Kill() //nolint:errcheck // It may have ended already.
		r.process.Wait()         //nolint:errcheck // It was killed.
		r.process = nil
	}
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (r *relay) proc(file string) (string, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.process.Process.Pid), file))
	return string(text), err
}

// residentBytes is what the relay holds in memory.
func (r *relay) residentBytes() (int64, error) {
	status, err := r.proc("status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(status) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmRSS in /proc")
}

// clockTicks is the unit of processor time in /proc/PID/stat, 1/100 s on Linux.
const clockTicks = 100

// processorTime is what the relay has used.
func (r *relay) processorTime() (time.Duration, error) {
	stat, err := r.proc("stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("short /proc/PID/stat")
	}
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}
