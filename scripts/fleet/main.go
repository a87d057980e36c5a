// Command fleet attaches a fleet of agents, all in one process, to a real relay-server on this machine, and measures what
// they cost the relay: how long it takes to let them in, memory and processor time while they idle, pushes beside their renewals, and how long
// all of them take to come back after the relay was killed.
//
//	go run ./scripts/fleet --bin.dir=bin --agents=10000
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

// What the relay promises for agents that idle.
const (
	maxBytesPerAgent = 60 << 10
	maxProcessor     = 0.10 // of one core, for 10,000 agents
	maxReattach      = 30 * time.Second
	maxEnroll        = 2 * time.Minute
	maxSlower        = 2.0
)

// renewalsPerSecond is a hundred times what 10,000 agents do that renew within a day.
const renewalsPerSecond = 12

func main() {
	app := kingpin.New("fleet", "Measures what attached agents cost a relay.")
	binDir := app.Flag("bin.dir", "Where relay-server is.").Default("bin").String()
	count := app.Flag("agents", "Agents to attach.").Default("10000").Int()
	idle := app.Flag("idle", "How long to watch the idle fleet.").Default("30s").Duration()
	kingpin.MustParse(app.Parse(os.Args[1:]))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, *binDir, *count, *idle); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, binDir string, count int, idle time.Duration) error {
	dir, err := os.MkdirTemp("", "fleet-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // What is left is in the temporary directory.

	r := &relay{binary: binDir + "/relay-server", dir: dir}
	if err := r.start(ctx); err != nil {
		return err
	}
	defer r.kill()
	empty, err := r.residentBytes()
	if err != nil {
		return err
	}
	begun := time.Now()
	enrolled, err := enroll(ctx, r, count)
	if err != nil {
		return err
	}
	report(out, fmt.Sprintf("%d agents come in by a join token", count), time.Since(begun).Round(10*time.Millisecond).String(), time.Since(begun) <= maxEnroll, maxEnroll.String())
	f, err := newFleet(r.grpcAddress, enrolled)
	if err != nil {
		return err
	}
	fleetCtx, disband := context.WithCancel(ctx)
	defer f.wait()
	defer disband()

	startedAt := time.Now()
	f.start(fleetCtx)
	if err := f.await(ctx, out); err != nil {
		return err
	}
	fmt.Fprintf(out, "first attach of all: %s\n", time.Since(startedAt).Round(10*time.Millisecond))

	if err := pause(ctx, 5*time.Second); err != nil { // garbage of the handshakes
		return err
	}
	before, err := r.processorTime()
	if err != nil {
		return err
	}
	if err := pause(ctx, idle); err != nil {
		return err
	}
	after, err := r.processorTime()
	if err != nil {
		return err
	}
	full, err := r.residentBytes()
	if err != nil {
		return err
	}
	report(out, "resident memory per agent", fmt.Sprintf("%.1f KiB", float64(full-empty)/float64(count)/1024), (full-empty)/int64(count) <= maxBytesPerAgent, "60 KiB")
	share := (after - before).Seconds() / idle.Seconds()
	report(out, "processor time while idle", fmt.Sprintf("%.1f %% of one core", 100*share), share <= maxProcessor, "10 %")

	ratio, err := besideRenewals(ctx, r, f, out)
	if err != nil {
		return err
	}
	report(out, fmt.Sprintf("p99 of pushes beside %d renewals a second", renewalsPerSecond), fmt.Sprintf("%.2f times", ratio), ratio <= maxSlower, fmt.Sprintf("%.0f times", maxSlower))

	r.kill()
	f.awaitGone(ctx)
	back := time.Now() // agents attach as soon as they can, also before the relay is seen to be ready
	if err := r.start(ctx); err != nil {
		return err
	}
	if err := f.await(ctx, out); err != nil {
		return err
	}
	report(out, "all attached again after the relay's restart", time.Since(back).Round(10*time.Millisecond).String(), time.Since(back) <= maxReattach, "30s")
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func report(out io.Writer, what, got string, met bool, limit string) {
	verdict := "met"
	if !met {
		verdict = "NOT met"
	}
	fmt.Fprintf(out, "%s: %s (limit %s: %s)\n", what, got, limit, verdict)
}
