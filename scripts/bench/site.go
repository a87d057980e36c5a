package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"pushrelay/internal/faultproxy"
)

// agentName is the identity of the agent.
const agentName = "site-a"

// A site is a relay with an authority of its own, to which agents can be attached.
type site struct {
	lab          *lab
	relay        *program
	dataDir      string // of the relay
	dialIn       string // where agents dial in
	certificates string // folder
	config       string // of agents
	paths        []string
	served       map[string]string // where the relay serves what the target serves at a path; set by attach
}

// newSite starts a relay, and prepares an agent with a job for each path of the target.
func (l *lab) newSite(ctx context.Context, t *program, paths []string) (*site, error) {
	dialIn, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dataDir, err := l.newDir("tunnel")
	if err != nil {
		return nil, err
	}
	s := &site{lab: l, dataDir: dataDir, dialIn: dialIn}
	if err := s.startRelay(ctx); err != nil {
		return nil, err
	}
	return l.siteAt(ctx, s.relay, dataDir, dialIn, t, paths)
}

// siteAt prepares an agent of a relay that runs.
func (l *lab) siteAt(ctx context.Context, relay *program, dataDir, dialIn string, t *program, paths []string) (*site, error) {
	s := &site{
		lab: l, relay: relay, dataDir: dataDir, dialIn: dialIn, certificates: filepath.Join(dataDir, agentName), config: filepath.Join(dataDir, "agent.yml"),
		paths: paths,
	}
	issue := exec.CommandContext(ctx, l.bin("relay-server"), "--data.dir="+dataDir, "agent-certificate", agentName, "--out="+s.certificates)
	if out, err := issue.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w\n%s", err, out)
	}
	var config strings.Builder
	config.WriteString("scrape_configs:\n")
	for i, path := range paths {
		fmt.Fprintf(&config, "  - job_name: job%d\n    metrics_path: %s\n    static_configs:\n      - targets: [%q]\n", i, path, t.address)
	}
	if err := os.WriteFile(s.config, []byte(config.String()), 0o600); err != nil {
		return nil, fmt.Errorf("writing the agent's configuration: %w", err)
	}
	return s, nil
}

// startRelay starts the relay, also one that was ended.
func (s *site) startRelay(ctx context.Context) (err error) {
	s.relay, err = s.lab.startRelay(ctx, s.dataDir, "--grpc.listen-address="+s.dialIn)
	return err
}

// startAgent starts an agent that dials the address. One at a time: all have one identity.
func (s *site) startAgent(ctx context.Context, address string, args ...string) (*program, error) {
	return s.lab.start(ctx, "relay-agent", s.lab.bin("relay-agent"), append(args,
		"--relay.address="+address, "--config.file="+s.config, "--tls.ca-file="+filepath.Join(s.certificates, "ca.crt"),
		"--tls.cert-file="+filepath.Join(s.certificates, "agent.crt"), "--tls.key-file="+filepath.Join(s.certificates, "agent.key"))...)
}

// attach starts an agent without a spool on disk, and returns once the relay knows all its targets.
func (s *site) attach(ctx context.Context, address string) (*program, error) {
	agent, err := s.startAgent(ctx, address, "--data.dir=")
	if err != nil {
		return nil, err
	}
	return agent, s.untilAttached(ctx, agent)
}

func (s *site) untilAttached(ctx context.Context, agent *program) error {
	return agent.until(ctx, func(ctx context.Context) (err error) {
		s.served, err = s.discover(ctx)
		if err == nil && len(s.served) != len(s.paths) {
			err = fmt.Errorf("the relay knows %d targets, want %d", len(s.served), len(s.paths))
		}
		return err
	})
}

func (s *site) untilDetached(ctx context.Context) error {
	return s.relay.until(ctx, func(ctx context.Context) error {
		_, err := s.discover(ctx)
		if errors.Is(err, errDetached) {
			return nil
		}
		return errors.Join(errors.New("the relay lists the agent as connected"), err)
	})
}

// reattach cuts the agent's session, and returns once it has another.
func (s *site) reattach(ctx context.Context, agent *program, network *faultproxy.Proxy) error {
	network.Cut(faultproxy.Reset)
	if err := s.untilDetached(ctx); err != nil {
		return err
	}
	return s.untilAttached(ctx, agent)
}

// detach ends the agent, and returns once the relay knows.
func (s *site) detach(ctx context.Context, agent *program) error {
	if err := s.lab.end(agent); err != nil {
		return err
	}
	return s.untilDetached(ctx)
}

var errDetached = errors.New("the relay lists the agent as not connected")

// discover returns where the relay serves the targets of a connected agent, by their own paths.
func (s *site) discover(ctx context.Context) (map[string]string, error) {
	page, err := get(ctx, s.relay.address, "/sd/targets")
	if err != nil {
		return nil, err
	}
	var groups []struct{ Labels map[string]string }
	if err := json.Unmarshal(page, &groups); err != nil {
		return nil, fmt.Errorf("decoding /sd/targets: %w", err)
	}
	served := map[string]string{}
	for _, g := range groups {
		if g.Labels["__meta_relay_agent_connected"] != "true" {
			return nil, errDetached
		}
		job, err := strconv.Atoi(strings.TrimPrefix(g.Labels["job"], "job"))
		if err != nil || job >= len(s.paths) {
			return nil, fmt.Errorf("the relay lists a job %q that nobody configured", g.Labels["job"])
		}
		served[s.paths[job]] = g.Labels["__metrics_path__"]
	}
	return served, nil
}
