package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// A machine is what the figures depend on.
type machine struct {
	Processor   string    `json:"processor"`
	Processors  int       `json:"processors"`
	MemoryGiB   float64   `json:"memory_gib"`
	Kernel      string    `json:"kernel"`
	Go          string    `json:"go"`
	Load        string    `json:"load"` // of the machine when the run began: what else it had to do
	Commit      string    `json:"commit"`
	Relay       string    `json:"relay"`
	Pushgateway string    `json:"pushgateway"`
	At          time.Time `json:"at"`
}

// describeMachine returns what can be found out; what cannot is "unknown".
func describeMachine(ctx context.Context, l *lab) machine {
	m := machine{
		Processor: fieldOf("/proc/cpuinfo", "model name"), Processors: runtime.NumCPU(),
		Kernel: firstLine(fileText("/proc/sys/kernel/osrelease")), Go: runtime.Version(), Load: "unknown",
		Commit: commit(ctx), Relay: versionOf(ctx, l.bin("relay-server")), Pushgateway: "none", At: time.Now().UTC().Truncate(time.Second),
	}
	if fields := strings.Fields(fileText("/proc/loadavg")); len(fields) > 0 {
		m.Load = fields[0]
	}
	var kib float64
	if _, err := fmt.Sscanf(fieldOf("/proc/meminfo", "MemTotal"), "%f kB", &kib); err == nil {
		m.MemoryGiB = kib / (1 << 20)
	}
	if l.pushgateway != "" {
		m.Pushgateway = versionOf(ctx, l.pushgateway)
	}
	return m
}

// String returns one paragraph.
func (m machine) String() string {
	return fmt.Sprintf("%s. %d × %s, %.0f GiB, Linux %s, load %s at the start. Commit %s, built with %s. Beside: %s.",
		m.At.Format("2006-01-02 15:04 MST"), m.Processors, m.Processor, m.MemoryGiB, m.Kernel, m.Load, m.Commit, m.Go, m.Pushgateway)
}

// commit names what the working copy holds; a "-dirty" one holds more than the commit.
func commit(ctx context.Context) string {
	return outputOf(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--match=")
}

func versionOf(ctx context.Context, program string) string {
	return outputOf(ctx, program, "--version")
}

// outputOf returns the first line of what a program says, on whichever of its outputs.
func outputOf(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "unknown"
	}
	return firstLine(string(out))
}

func fileText(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}

// fieldOf returns the value of the first line of a file that has the name before its colon.
func fieldOf(path, name string) string {
	for line := range strings.Lines(fileText(path)) {
		if before, after, found := strings.Cut(line, ":"); found && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return "unknown"
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if line == "" {
		return "unknown"
	}
	return line
}
