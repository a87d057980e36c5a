package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A member is one relay of the cluster that is shown.
type member struct{ name, web, link, peer string }

// A siteAgent is one of its agents.
type siteAgent struct{ name, url string }

// A clusterDemo shows three relays that are one service.
type clusterDemo struct {
	*demo

	members  [3]member
	agents   [2]siteAgent
	balancer *balancer
	leader   member
	pushed   map[string]int // the last value of each job that was taken
}

// showCluster goes through what three relays are for.
func (d *demo) showCluster(ctx context.Context) error {
	c := &clusterDemo{demo: d, pushed: map[string]int{}}
	defer func() { c.balancer.close() }()
	return d.play(ctx, []act{
		{"Before: one relay, with what was pushed to it", []func(context.Context) error{c.startFirst}},
		{"Act 1: it becomes the first of three, and two others join", []func(context.Context) error{c.init, c.join, c.startBalancer}},
		{"Act 2: two agents dial all three; a Prometheus scrapes them as one, behind a balancer", []func(context.Context) error{c.startAgents, c.startPrometheus}},
		{"Act 3: what is pushed at any of them is scraped at any", []func(context.Context) error{c.pushEverywhere}},
		{"Act 4: the one that decides is killed, while pushes and scrapes go on", []func(context.Context) error{c.killLeader}},
		{"Act 5: it comes back", []func(context.Context) error{c.comeBack}},
	})
}

func (c *clusterDemo) dataDir(m member) string {
	return "--data.dir=" + filepath.Join(c.dir, "relay-"+m.name)
}

func (c *clusterDemo) startFirst(ctx context.Context) error {
	addresses, err := freeAddresses(3 * len(c.members))
	if err != nil {
		return err
	}
	for i := range c.members {
		c.members[i] = member{string(rune('a' + i)), addresses[3*i], addresses[3*i+1], addresses[3*i+2]}
	}
	if err := c.startMember(ctx, c.members[0]); err != nil {
		return err
	}
	return c.pushAt(ctx, c.members[0], "before")
}

func (c *clusterDemo) startMember(ctx context.Context, m member) error {
	if err := c.start("relay-server-"+m.name, c.program("relay-server"), c.dataDir(m), "--web.listen-address="+m.web, "--grpc.listen-address="+m.link); err != nil {
		return err
	}
	if err := c.waitReady(ctx, "http://"+m.web); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "relay %s     http://%s, agents and relays dial in at %s\n", m.name, m.web, m.link)
	return nil
}

// command runs a command of a member, and returns what it prints.
func (c *clusterDemo) command(ctx context.Context, m member, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.program("relay-server"), append([]string{c.dataDir(m)}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("relay-server %s: %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return string(out), nil
}

func (m member) flags() []string {
	return []string{"--peer-address=" + m.peer, "--link-address=" + m.link, "--web-address=" + m.web}
}

func (c *clusterDemo) init(ctx context.Context) error {
	first := c.members[0]
	if _, err := c.command(ctx, first, append([]string{"cluster", "init", "--name=" + first.name}, first.flags()...)...); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "relay %s$ relay-server cluster init --name=%s\n", first.name, first.name)
	return c.waitReady(ctx, "http://"+first.web)
}

func (c *clusterDemo) join(ctx context.Context) error {
	first := c.members[0]
	for _, m := range c.members[1:] {
		token, err := c.command(ctx, first, "cluster", "token", m.name)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "\nrelay %s$ relay-server cluster token %s\n    prc1_…\nrelay %s$ relay-server cluster join prc1_…\n", first.name, m.name, m.name)
		if _, err := c.command(ctx, m, append([]string{"cluster", "join", strings.TrimSpace(token)}, m.flags()...)...); err != nil {
			return err
		}
		if err := c.startMember(ctx, m); err != nil {
			return err
		}
	}
	status, err := c.command(ctx, first, "cluster", "status")
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\nrelay %s$ relay-server cluster status\n%s", first.name, indent(status))
	return nil
}

func (c *clusterDemo) startBalancer(context.Context) error {
	var behind []string
	for _, m := range c.members {
		behind = append(behind, m.web)
	}
	var err error
	if c.balancer, err = startBalancer(behind); err != nil {
		return err
	}
	c.relayURL = "http://" + c.balancer.address()
	fmt.Fprintf(c.out, "\nbalancer    %s, to any of the three that answers\n", c.relayURL)
	return nil
}

func (c *clusterDemo) startAgents(ctx context.Context) error {
	var links []string
	for _, m := range c.members {
		links = append(links, "--relay.address="+m.link)
	}
	for i := range c.agents {
		addresses, err := freeAddresses(1)
		if err != nil {
			return err
		}
		a := siteAgent{fmt.Sprint("site-", string(rune('a'+i))), "http://" + addresses[0]}
		token, err := c.command(ctx, c.members[0], append([]string{"agents", "token", a.name}, links...)...)
		if err != nil {
			return err
		}
		dir := "--data.dir=" + filepath.Join(c.dir, a.name)
		enrol := exec.CommandContext(ctx, c.program("relay-agent"), "enroll", dir, "-")
		enrol.Stdin = strings.NewReader(token)
		if out, err := enrol.CombinedOutput(); err != nil {
			return fmt.Errorf("enrolling %s: %w\n%s", a.name, err, out)
		}
		config := filepath.Join(c.dir, a.name+".yml")
		text := fmt.Sprintf("scrape_configs:\n  - job_name: agent\n    static_configs:\n      - targets: [%q]\n", addresses[0])
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			return fmt.Errorf("writing the configuration of %s: %w", a.name, err)
		}
		if err := c.start("relay-agent-"+a.name, c.program("relay-agent"), dir, "--config.file="+config, "--web.listen-address="+addresses[0]); err != nil {
			return err
		}
		c.agents[i] = a
		if err := c.waitAttached(ctx, a); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "agent       %s, %s, connected to all three\n", a.url, a.name)
	}
	return nil
}

// waitAttached waits until an agent has a session with each relay that lives.
func (c *clusterDemo) waitAttached(ctx context.Context, a siteAgent) error {
	return c.poll(ctx, func() error {
		page, err := get(ctx, a.url+"/metrics")
		if err != nil {
			return err
		}
		for _, m := range c.members {
			if !strings.Contains(page, fmt.Sprintf("relay_agent_connected{relay=%q} 1\n", m.link)) {
				return fmt.Errorf("%s is not connected to relay %s", a.name, m.name)
			}
		}
		return nil
	})
}

// pushAt pushes the next value of a job at a relay, and wants that it is taken.
func (c *clusterDemo) pushAt(ctx context.Context, m member, job string) error {
	next := c.pushed[job] + 1
	url := "http://" + m.web + "/metrics/job/" + job
	if err := c.put(ctx, url, fmt.Sprintf("# TYPE runs_total counter\nruns_total %d\n", next)); err != nil {
		return err
	}
	c.pushed[job] = next
	return nil
}

// wantAt wants that a page shows all that was pushed.
func (c *clusterDemo) wantAt(ctx context.Context, url string) error {
	page, err := get(ctx, url+"/metrics")
	if err != nil {
		return err
	}
	for job, value := range c.pushed {
		if line := fmt.Sprintf("runs_total{instance=\"\",job=%q} %d\n", job, value); !strings.Contains(page, line) {
			return fmt.Errorf("%s does not show %s", url, line)
		}
	}
	return nil
}

func (c *clusterDemo) pushEverywhere(ctx context.Context) error {
	for _, m := range c.members {
		job := "pushed-at-" + m.name
		if err := c.pushAt(ctx, m, job); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "$ curl -X PUT http://%s/metrics/job/%s\n    200 OK\n", m.web, job)
	}
	for _, m := range c.members {
		if err := c.wantAt(ctx, "http://"+m.web); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "$ curl http://%s/metrics\n    all that was pushed anywhere\n", m.web)
	}
	return c.queryUp(ctx)
}

// queryUp wants that Prometheus has both agents' targets up.
func (c *clusterDemo) queryUp(ctx context.Context) error {
	return c.query(ctx, `sum(up{job="agent"})`, "2")
}

// findLeader asks which relay decides.
func (c *clusterDemo) findLeader(ctx context.Context) error {
	return c.poll(ctx, func() error {
		for _, m := range c.members {
			page, err := get(ctx, "http://"+m.web+"/-/relay-metrics")
			if err == nil && strings.Contains(page, "\nrelay_cluster_leader 1\n") {
				c.leader = m
				return nil
			}
		}
		return errors.New("no relay decides")
	})
}

// killLeader pushes at the two others and scrapes through the balancer, while the one that decides is killed.
func (c *clusterDemo) killLeader(ctx context.Context) error {
	if err := c.findLeader(ctx); err != nil {
		return err
	}
	var rest []member
	for _, m := range c.members {
		if m != c.leader {
			rest = append(rest, m)
		}
	}
	scraping, stop := context.WithCancel(ctx)
	defer stop()
	scrapes, cutOff := 0, 0
	var going errgroup.Group
	going.Go(func() error {
		for ; scraping.Err() == nil; scrapes++ {
			if _, err := get(ctx, c.relayURL+"/metrics"); err != nil {
				if cutOff++; cutOff > 1 { // the one that the relay was answering when it was killed
					return fmt.Errorf("scraping through the balancer: %w", err)
				}
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-scraping.Done():
			}
		}
		return nil
	})
	if err := c.kill("relay-server-" + c.leader.name); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "$ kill -9 relay %s, which decided\n", c.leader.name)
	for _, m := range rest {
		began := time.Now()
		if err := c.poll(ctx, func() error { return c.pushAt(ctx, m, "pushed-at-"+m.name) }); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "$ curl -X PUT http://%s/metrics/job/pushed-at-%s\n    200 OK, after %.1f s\n", m.web, m.name, time.Since(began).Seconds())
	}
	stop()
	if err := going.Wait(); err != nil {
		return err
	}
	if err := c.wantAt(ctx, c.relayURL); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%d scrapes through the balancer meanwhile, of which the kill cut off %d; nothing is missing\n", scrapes, cutOff)
	return c.queryUp(ctx)
}

func (c *clusterDemo) comeBack(ctx context.Context) error {
	if err := c.startMember(ctx, c.leader); err != nil {
		return err
	}
	if err := c.poll(ctx, func() error { return c.wantAt(ctx, "http://"+c.leader.web) }); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "$ curl http://%s/metrics\n    all that was pushed, also while it was dead\n", c.leader.web)
	status, err := c.command(ctx, c.members[0], "cluster", "status")
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\n$ relay-server cluster status\n%s", indent(status))
	return nil
}
