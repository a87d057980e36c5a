package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	// syncSamples are how often the disk is asked for its time to make a block durable, in each round.
	syncSamples = 200
	// durablePushLines are the series of one push.
	durablePushLines = 100
)

// measureDurability measures what it costs that a push is on the disk before it is answered, and how soon a relay is back.
func measureDurability(ctx context.Context, l *lab) ([]row, error) {
	pushes, err := measureDurablePushes(ctx, l)
	if err != nil {
		return nil, err
	}
	recovery, err := measureRecovery(ctx, l)
	if err != nil {
		return nil, err
	}
	return append(pushes, recovery...), nil
}

func measureDurablePushes(ctx context.Context, l *lab) ([]row, error) {
	s := shape{groups: busyGroups, lines: durablePushLines}
	dir, err := l.newDir("relay")
	if err != nil {
		return nil, err
	}
	disk, err := l.startRelay(ctx, dir)
	if err != nil {
		return nil, err
	}
	memory, err := l.startRelay(ctx, "")
	if err != nil {
		return nil, err
	}
	onDisk, inMemory := putAll(disk.address, s, busyGroups, pushedValues), putAll(memory.address, s, busyGroups, pushedValues)
	l.say("measuring durable pushes")
	m, err := interleave(ctx, l.rounds, []arm{
		{"sync", func(context.Context) (float64, error) { return l.syncMedian() }},
		rate("disk 16", disk.address, onDisk, 16, 4*l.sizes.pushes), rate("memory 16", memory.address, inMemory, 16, 4*l.sizes.pushes),
		rate("disk 64", disk.address, onDisk, 64, 4*l.sizes.pushes), rate("memory 64", memory.address, inMemory, 64, 4*l.sizes.pushes),
	})
	if err != nil {
		return nil, err
	}
	rows := []row{newRow("fdatasync of a 4 KiB block, p50", "µs", m["sync"])}
	for _, connections := range []int{16, 64} {
		of := strconv.Itoa(connections)
		enough := 0.7 * float64(connections) / (m["sync"].spread().Median * 1e-6)
		rows = append(rows, newRow("pushes of "+strconv.Itoa(durablePushLines)+" series kept on disk, "+of+" connections", "pushes/s", m["disk "+of]).
			times(m["disk "+of], "kept in memory", m["memory "+of]).limited(limit{Bound: 0.5, Of: "compared", Least: true, OrAbsolute: enough}))
	}
	return rows, nil
}

// syncMedian returns how long the disk takes to make a block durable, in microseconds.
func (l *lab) syncMedian() (float64, error) {
	f, err := os.Create(filepath.Join(l.dir, "sync"))
	if err != nil {
		return 0, fmt.Errorf("measuring the disk: %w", err)
	}
	defer func() { _ = f.Close() }() // what it holds is nobody's
	block := make([]byte, 4096)
	took := make([]time.Duration, 0, syncSamples)
	for i := range syncSamples {
		if _, err := f.WriteAt(block, int64(i%16)*int64(len(block))); err != nil {
			return 0, fmt.Errorf("measuring the disk: %w", err)
		}
		start := time.Now()
		if err := datasync(f); err != nil {
			return 0, fmt.Errorf("measuring the disk: %w", err)
		}
		if i >= len(block)/256 { // the first ones allocate
			took = append(took, time.Since(start))
		}
	}
	return milliseconds(median(took)) * 1000, nil
}

// measureRecovery kills a full relay and measures the time until it is ready again, with the start of the process.
func measureRecovery(ctx context.Context, l *lab) ([]row, error) {
	dir, err := l.newDir("relay")
	if err != nil {
		return nil, err
	}
	relay, err := l.startRelay(ctx, dir)
	if err != nil {
		return nil, err
	}
	l.say("filling a relay with %d series to be recovered", l.sizes.large)
	if err := l.fillAndCheck(ctx, relay, l.stored(l.sizes.large)); err != nil {
		return nil, err
	}
	l.say("measuring recovery")
	m, err := interleave(ctx, l.rounds, []arm{{"recovery", func(ctx context.Context) (float64, error) {
		l.kill(relay)
		start := time.Now()
		var err error
		relay, err = l.startRelay(ctx, dir)
		return milliseconds(time.Since(start)), err
	}}})
	if err != nil {
		return nil, err
	}
	return []row{newRow("from kill -9 to ready with "+thousands(l.sizes.large)+" series on disk", "ms", m["recovery"]).
		limited(limit{Bound: 1500, Of: "relay"})}, nil
}

// kill ends a program as a crash does.
func (l *lab) kill(p *program) {
	l.started = slices.DeleteFunc(l.started, func(other *program) bool { return other == p })
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}
