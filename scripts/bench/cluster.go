package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pushrelay/internal/monotonic"
)

// clusterLines are the series of one push to a cluster.
const clusterLines = 50

// A cluster is three relays that are one service, with their folders.
type cluster struct {
	lab     *lab
	members [3]*clusterMember
}

type clusterMember struct {
	*program

	name, dir        string
	web, link, peers string // addresses
}

// measureCluster measures three relays that are one service beside one that keeps pushes on its own disk, all on this machine.
func measureCluster(ctx context.Context, l *lab) ([]row, error) {
	c, err := l.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := l.newDir("relay")
	if err != nil {
		return nil, err
	}
	single, err := l.startRelay(ctx, dir)
	if err != nil {
		return nil, err
	}
	rows, err := c.idle(ctx, single)
	if err != nil {
		return nil, err
	}
	pushes, err := c.measurePushes(ctx, single)
	if err != nil {
		return nil, err
	}
	scrapes, err := c.measureScrapes(ctx)
	if err != nil {
		return nil, err
	}
	deaths, err := c.measureDeaths(ctx)
	return append(append(append(rows, pushes...), scrapes...), deaths...), err
}

// startCluster starts the relays, the first of which lets the others in.
func (l *lab) startCluster(ctx context.Context) (*cluster, error) {
	c := &cluster{lab: l}
	for i := range c.members {
		m := &clusterMember{name: string(rune('a' + i))}
		var err error
		if m.dir, err = l.newDir(m.name); err != nil {
			return nil, err
		}
		for _, address := range []*string{&m.web, &m.link, &m.peers} {
			if *address, err = freeAddress(); err != nil {
				return nil, err
			}
		}
		c.members[i] = m
	}
	first := c.members[0]
	if err := c.start(ctx, first); err != nil {
		return nil, err
	}
	if _, err := c.command(ctx, first, append([]string{"cluster", "init", "--name=" + first.name}, first.addresses()...)...); err != nil {
		return nil, err
	}
	for _, m := range c.members[1:] {
		token, err := c.command(ctx, first, "cluster", "token", m.name)
		if err != nil {
			return nil, err
		}
		if _, err := c.command(ctx, m, append([]string{"cluster", "join", strings.TrimSpace(token)}, m.addresses()...)...); err != nil {
			return nil, err
		}
		if err := c.start(ctx, m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (m *clusterMember) addresses() []string {
	return []string{"--peer-address=" + m.peers, "--link-address=" + m.link, "--web-address=" + m.web}
}

// start starts a member, also one that was killed, and waits until it is ready.
func (c *cluster) start(ctx context.Context, m *clusterMember) error {
	p, err := startProgram(c.lab.dir, "relay-"+m.name, m.web, c.lab.bin("relay-server"), "--data.dir="+m.dir, "--web.listen-address="+m.web,
		"--grpc.listen-address="+m.link, "--web.enable-lifecycle", "--log.level=warn")
	if err != nil {
		return err
	}
	m.program = p
	c.lab.started = append(c.lab.started, p)
	return p.waitReady(ctx)
}

// command runs a command on a member's folder and returns what it prints.
func (c *cluster) command(ctx context.Context, m *clusterMember, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, c.lab.bin("relay-server"), append([]string{"--data.dir=" + m.dir}, args...)...).Output()
	if failed, is := errors.AsType[*exec.ExitError](err); is {
		return "", fmt.Errorf("relay-server %s: %w: %s", strings.Join(args, " "), err, failed.Stderr)
	}
	return string(out), err
}

// idle compares what members hold resident that nobody uses.
func (c *cluster) idle(ctx context.Context, single *program) ([]row, error) {
	monotonic.Sleep(ctx, 5*time.Second) // what a start needs is given back
	alone, err := single.residentBytes()
	if err != nil {
		return nil, err
	}
	var held, beside samples
	for _, m := range c.members {
		n, err := m.residentBytes()
		if err != nil {
			return nil, err
		}
		held, beside = append(held, n/(1<<20)), append(beside, alone/(1<<20))
	}
	return []row{newRow("resident, an idle member of three", "MiB", held).more(held, "one relay", beside).limited(limit{Bound: 60, Of: "compared"})}, nil
}

// measurePushes compares pushes over all members, which all three keep on their disks, with those of one relay.
func (c *cluster) measurePushes(ctx context.Context, single *program) ([]row, error) {
	s := shape{groups: busyGroups, lines: clusterLines}
	var all [][][]byte
	for _, m := range c.members {
		all = append(all, putAll(m.web, s, busyGroups, pushedValues))
	}
	alone := putAll(single.address, s, busyGroups, pushedValues)
	count := 2 * c.lab.sizes.pushes
	took := map[string]samples{}
	c.lab.say("measuring pushes over three relays")
	m, err := interleave(ctx, c.lab.rounds, []arm{
		{"three", func(ctx context.Context) (float64, error) {
			p, err := c.push(ctx, all, count)
			if err == nil {
				took["three"] = append(took["three"], milliseconds(median(p.latencies)))
			}
			return p.perSecond(), err
		}},
		{"one", func(ctx context.Context) (float64, error) {
			p, err := push(ctx, single.address, prepared(alone), concurrent, count)
			if err == nil {
				took["one"] = append(took["one"], milliseconds(median(p.latencies)))
			}
			return p.perSecond(), err
		}},
	})
	if err != nil {
		return nil, err
	}
	return []row{
		newRow(fmt.Sprintf("pushes of %d series over three relays, kept on three disks, %d pushers", clusterLines, concurrent), "pushes/s", m["three"]).
			times(m["three"], "one relay", m["one"]).limited(limit{Bound: 0.2, Of: "compared", Least: true}),
		newRow("p50 of such a push", "ms", took["three"]).times(took["three"], "one relay", took["one"]).limited(limit{Bound: 10, Of: "compared"}),
	}, nil
}

// push pushes at all members at once, with the same number of connections to each but one.
func (c *cluster) push(ctx context.Context, requests [][][]byte, count int) (pushed, error) {
	var total pushed
	parts := make([]pushed, len(c.members))
	begun := time.Now()
	var all errgroup.Group
	for i, m := range c.members {
		connections := concurrent / len(c.members)
		if i == 0 {
			connections += concurrent % len(c.members)
		}
		all.Go(func() (err error) {
			parts[i], err = push(ctx, m.web, prepared(requests[i]), connections, count/len(c.members))
			return err
		})
	}
	err := all.Wait()
	total.wall = time.Since(begun)
	for _, p := range parts {
		total.latencies = append(total.latencies, p.latencies...)
	}
	return total, err
}

// measureScrapes compares scrapes of an agent at the relay that it is attached to with those at another one.
func (c *cluster) measureScrapes(ctx context.Context) ([]row, error) {
	l := c.lab
	t, err := l.startTarget(ctx)
	if err != nil {
		return nil, err
	}
	here := c.members[0]
	s, err := l.siteAt(ctx, here.program, here.dir, here.link, t, []string{thousandPath, bigPath})
	if err != nil {
		return nil, err
	}
	agent, err := s.attach(ctx, here.link)
	if err != nil {
		return nil, err
	}
	near := route{name: "here", address: here.web, paths: s.served}
	far := route{name: "elsewhere", address: c.members[1].web, paths: s.served}
	var arms []arm
	for _, r := range []route{near, far} {
		arms = append(arms, p50("1,000 series "+r.name, r.open, thousandPath, l.sizes.tunnelScrapes), p50("5 MB "+r.name, r.open, bigPath, max(3, l.sizes.tunnelScrapes/8)))
	}
	l.say("measuring scrapes that are forwarded")
	m, err := interleave(ctx, l.rounds, arms)
	if err != nil {
		return nil, err
	}
	return []row{
		newRow("p50 of 1,000 series, forwarded to another relay", "ms", m["1,000 series elsewhere"]).
			more(m["1,000 series elsewhere"], "not forwarded", m["1,000 series here"]).limited(limit{Bound: 0.5, Of: "compared"}),
		newRow(fmt.Sprintf("p50 of %.1f MB, forwarded", float64(l.sizes.bigBody)/1e6), "ms", m["5 MB elsewhere"]).
			times(m["5 MB elsewhere"], "not forwarded", m["5 MB here"]).limited(limit{Bound: 1.6, Of: "compared"}),
	}, s.detach(ctx, agent)
}

// deaths is how often the leader dies. It is the median of ten that has a limit.
const deaths = 10

// measureDeaths kills and ends the leader, and measures how long pushes at the others are away.
func (c *cluster) measureDeaths(ctx context.Context) ([]row, error) {
	killed, err := c.away(ctx, "killing the leader", func(m *clusterMember) error { c.lab.kill(m.program); return nil })
	if err != nil {
		return nil, err
	}
	ended, err := c.away(ctx, "ending the leader", func(m *clusterMember) error { return c.lab.end(m.program) })
	if err != nil {
		return nil, err
	}
	return []row{
		newRow("longest wait of a push at another relay, kill -9 of the leader", "s", killed).limited(limit{Bound: 6, Of: "relay"}),
		newRow("the same, SIGTERM", "s", ended).limited(limit{Bound: 1, Of: "relay"}),
	}, nil
}

func (c *cluster) away(ctx context.Context, what string, die func(m *clusterMember) error) (waits samples, err error) {
	rounds := deaths
	if c.lab.quick {
		rounds = 1
	}
	c.lab.say("%s", what)
	for range rounds {
		leader, err := c.leader(ctx)
		if err != nil {
			return nil, err
		}
		var stop atomic.Bool
		var longest atomic.Int64
		var pushing errgroup.Group
		for _, m := range c.members {
			if m != leader {
				pushing.Go(func() error { return pushUntil(ctx, m.web, &stop, &longest) })
			}
		}
		monotonic.Sleep(ctx, time.Second)
		died := make(chan error, 1)
		go func() { died <- die(leader) }() // an end takes as long as it takes: pushes go on meanwhile
		monotonic.Sleep(ctx, 10*time.Second)
		stop.Store(true)
		if err := errors.Join(pushing.Wait(), <-died); err != nil {
			return nil, err
		}
		waits = append(waits, time.Duration(longest.Load()).Seconds())
		if err := c.start(ctx, leader); err != nil {
			return nil, err
		}
	}
	return waits, nil
}

// pushUntil pushes one value after the other, each until it is taken, and notes the longest that one took.
func pushUntil(ctx context.Context, address string, stop *atomic.Bool, longest *atomic.Int64) error {
	client := &http.Client{Timeout: 15 * time.Second}
	for !stop.Load() {
		began := time.Now()
		for taken := false; !taken; {
			r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+address+"/metrics/job/death", strings.NewReader("x 1\n"))
			if err != nil {
				return err
			}
			resp, err := client.Do(r)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if taken = resp.StatusCode == http.StatusOK; !taken && time.Since(began) > time.Minute {
				return fmt.Errorf("a push at %s was not taken for a minute: %s", address, resp.Status)
			}
		}
		if took := time.Since(began); took > time.Duration(longest.Load()) {
			longest.Store(int64(took)) // two that race lose a little of one round
		}
		monotonic.Sleep(ctx, 5*time.Millisecond)
	}
	return nil
}

// leader returns the member that leads.
func (c *cluster) leader(ctx context.Context) (leader *clusterMember, err error) {
	err = c.members[0].until(ctx, func(ctx context.Context) error {
		for _, m := range c.members {
			page, err := get(ctx, m.web, "/-/relay-metrics")
			if err == nil && strings.Contains(string(page), "\nrelay_cluster_leader 1\n") {
				leader = m
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader, err
}
