package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// spoolLines are the series of one push at the agent.
const spoolLines = 50

// measureSpool measures pushes at the agent, which are on its disk and on the relay's before they are answered, beside pushes
// at a relay; and how soon what waited at the agent is at a relay that was away.
func measureSpool(ctx context.Context, l *lab) ([]row, error) {
	s, err := l.newSite(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	dir, err := l.newDir("agent")
	if err != nil {
		return nil, err
	}
	agent, err := s.startAgent(ctx, s.dialIn, "--data.dir="+dir)
	if err != nil {
		return nil, err
	}
	if err := waitFor(ctx, agent, "relay_agent_connected", 1); err != nil {
		return nil, err
	}
	answered, err := l.measureSpooledPushes(ctx, s, agent)
	if err != nil {
		return nil, err
	}
	drained, err := l.measureDrain(ctx, s, agent)
	return append(answered, drained...), err
}

// measureSpooledPushes measures pushes that are applied at the relay when they are answered.
func (l *lab) measureSpooledPushes(ctx context.Context, s *site, agent *program) ([]row, error) {
	memory, err := l.startRelay(ctx, "")
	if err != nil {
		return nil, err
	}
	of := shape{groups: busyGroups, lines: spoolLines}
	if err := fill(ctx, agent.address, of); err != nil {
		return nil, err
	}
	if shown, err := countSeries(ctx, s.relay.address); err != nil || shown != of.series() {
		return nil, fmt.Errorf("the relay shows %d series after %s were pushed at the agent: %w", shown, of, err)
	}
	through := putAll(agent.address, of, busyGroups, pushedValues)
	// Groups of an agent have its label: these are others, with the same series.
	onDisk, inMemory := putAll(s.relay.address, of, busyGroups, pushedValues), putAll(memory.address, of, busyGroups, pushedValues)
	l.say("measuring pushes at the agent")
	m, err := interleave(ctx, l.rounds, []arm{
		{"sync", func(context.Context) (float64, error) {
			microseconds, err := l.syncMedian()
			return microseconds / 1000, err
		}},
		pushP50("agent p50", agent.address, through, l.sizes.pushes/3), pushP50("memory p50", memory.address, inMemory, l.sizes.pushes/3),
		rate("agent 16", agent.address, through, concurrent, 2*l.sizes.pushes),
		rate("disk 16", s.relay.address, onDisk, concurrent, 2*l.sizes.pushes), rate("memory 16", memory.address, inMemory, concurrent, 2*l.sizes.pushes),
	})
	if err != nil {
		return nil, err
	}
	if err := checkNothingWaits(ctx, agent); err != nil {
		return nil, err
	}
	syncs := m["sync"].pairwise(m["sync"], func(a, b float64) float64 { return a + b })
	net := m["agent p50"].pairwise(syncs, difference)
	what := "pushes of " + strconv.Itoa(spoolLines) + " series at the agent, on both disks, 16 connections"
	return []row{
		newRow("p50 of a push of "+strconv.Itoa(spoolLines)+" series at the agent, on both disks", "ms", m["agent p50"]),
		newRow("the same, net of two fdatasyncs", "ms", net).
			more(net, "at a relay in memory", m["memory p50"]).limited(limit{Bound: 3, Of: "compared"}),
		newRow(what, "pushes/s", m["agent 16"]).
			times(m["agent 16"], "at the relay, on disk", m["disk 16"]).limited(limit{Bound: 1.0 / 3, Of: "compared", Least: true}),
		newRow(what, "pushes/s", m["agent 16"]).times(m["agent 16"], "at a relay in memory", m["memory 16"]),
	}, nil
}

// checkNothingWaits fails if pushes were kept at the agent instead of applied at the relay: that is answered well too, and
// sooner.
func checkNothingWaits(ctx context.Context, agent *program) error {
	waiting, err := sample(ctx, agent, "relay_agent_spool_entries")
	if err == nil && waiting != 0 {
		err = fmt.Errorf("%v changes wait at the agent after all pushes were answered", waiting)
	}
	return err
}

// measureDrain lets the relay be away while groups are pushed, and measures from its session's beginning until it has all.
func (l *lab) measureDrain(ctx context.Context, s *site, agent *program) ([]row, error) {
	waiting := shape{groups: l.sizes.waiting, lines: spoolLines}
	l.say("measuring how soon %d groups that waited are at the relay", waiting.groups)
	var taken, drained, resident samples
	for round := range l.rounds {
		if err := l.end(s.relay); err != nil {
			return nil, err
		}
		if err := waitFor(ctx, agent, "relay_agent_connected", 0); err != nil {
			return nil, err
		}
		requests := func(i int, scratch []byte) []byte {
			return appendPut(scratch, agent.address, waiting.path(i), textType, waiting.body(i, round))
		}
		p, err := push(ctx, agent.address, requests, concurrent, waiting.groups)
		if err != nil {
			return nil, err
		}
		if entries, err := sample(ctx, agent, "relay_agent_spool_entries"); err != nil || entries != float64(waiting.groups) {
			return nil, fmt.Errorf("%v changes wait at the agent while the relay is away, want %d: %w", entries, waiting.groups, err)
		}
		held, err := agent.residentBytes()
		if err != nil {
			return nil, err
		}
		if err := s.startRelay(ctx); err != nil {
			return nil, err
		}
		if err := waitFor(ctx, agent, "relay_agent_connected", 1); err != nil {
			return nil, err
		}
		attached := time.Now()
		if err := waitFor(ctx, agent, "relay_agent_spool_entries", 0); err != nil {
			return nil, err
		}
		drained = append(drained, time.Since(attached).Seconds())
		taken = append(taken, p.perSecond())
		resident = append(resident, held/(1<<20))
	}
	of := thousands(waiting.groups) + " groups of " + strconv.Itoa(spoolLines) + " series"
	return []row{
		newRow("pushes at the agent while the relay is away, 16 connections", "pushes/s", taken),
		newRow("resident of an agent where "+of+" wait", "MiB", resident),
		newRow("from the session with a relay that is back until it has all "+of, "s", drained).limited(limit{Bound: 5, Of: "relay"}),
	}, nil
}

// pushP50 returns an arm that measures the median time of a push, in ms.
func pushP50(name, address string, requests [][]byte, count int) arm {
	return arm{name, func(ctx context.Context) (float64, error) {
		p, err := push(ctx, address, prepared(requests), 1, count)
		if err != nil {
			return 0, err
		}
		return milliseconds(p.latencies[len(p.latencies)/2]), nil
	}}
}

// sample returns the value of a program's own metric, the first of that name.
func sample(ctx context.Context, p *program, name string) (float64, error) {
	page, err := get(ctx, p.address, "/metrics")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if metric, _, _ := strings.Cut(series, "{"); metric == name {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("reading the metrics of %s: no %q", p.name, name)
}

// waitFor waits until a program's own metric has the value.
func waitFor(ctx context.Context, p *program, metric string, want float64) error {
	return p.until(ctx, func(ctx context.Context) error {
		got, err := sample(ctx, p, metric)
		if err == nil && got != want {
			err = fmt.Errorf("%s is %v, want %v", metric, got, want)
		}
		return err
	})
}
