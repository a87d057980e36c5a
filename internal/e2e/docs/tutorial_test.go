//go:build linux

package docs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/document"
	"pushrelay/internal/e2e/netns"
	"pushrelay/internal/e2e/program"
)

// A step is a block of commands of a tutorial, and what it prints, if the page says so.
type step struct {
	place, text, prints string
}

// where is the first line of the step if it is a comment, which says where it is for.
func (s step) where() string {
	first, _, _ := strings.Cut(s.text, "\n")
	where, _ := strings.CutPrefix(first, "# ")
	return where
}

// stepsOf returns the commands of a page in their order. A block of text right after commands is what these print.
func stepsOf(t testing.TB, file string) (steps []step) {
	t.Helper()
	blocks, err := blocksOf(file, client.ReadFile(t, filepath.Join(document.Repository, file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		text := strings.Join(b.lines, "\n") + "\n"
		switch {
		case b.language == "sh":
			steps = append(steps, step{place: b.place, text: text})
		case b.language == "text" && len(steps) > 0:
			steps[len(steps)-1].prints = text
		}
	}
	return steps
}

var errPrints = errors.New("it prints something else")

// run runs a step as its reader would: until it prints what the page says, if it says so, and once otherwise.
func (s step) run(t testing.TB, shell func(line string) program.Command) {
	t.Helper()
	if s.prints == "" {
		program.MustOutput(t, shell("set -e\n"+s.text))
		return
	}
	want := regexp.MustCompile(`^(?:` + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(s.prints)), "…", ".*") + `)$`)
	client.Eventually(t, 30*time.Second, s.place, func() error {
		if r := program.Output(t, shell(s.text)); r.Code != 0 || !want.MatchString(strings.TrimSpace(r.Stdout)) {
			return fmt.Errorf("%w: exit code %d\n%s%s", errPrints, r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}

// machineIn returns the shell of a user with a home of its own in a network namespace.
func machineIn(t testing.TB, netns string) (shell func(line string) program.Command, home string) {
	t.Helper()
	home = t.TempDir()
	return func(line string) program.Command {
		return program.Command{
			Path: "/bin/sh", Args: []string{"-c", line}, Dir: home, Netns: netns,
			Env: []string{"PATH=" + filepath.Dir(program.RelayServer()) + ":" + os.Getenv("PATH"), "HOME=" + home},
		}
	}, home
}

const ownTerminal = "n a terminal of its own"

// TestTutorialOnOneMachine runs the tutorial, word by word.
func TestTutorialOnOneMachine(t *testing.T) {
	t.Parallel()
	program.RequireProgram(t, "/usr/bin/prometheus", "prometheus")
	shell, _ := machineIn(t, netns.New(t).Outside)
	steps := stepsOf(t, "docs/tutorial/one-machine.md")
	if len(steps) != 12 {
		t.Errorf("it has %d steps", len(steps))
	}
	for _, s := range steps {
		if strings.HasSuffix(s.where(), ownTerminal) {
			program.Start(t, shell("exec "+commandOf(s)))
			continue
		}
		s.run(t, shell)
	}
}

// commandOf is the only command of a step, below the line that says where it is for.
func commandOf(s step) string {
	_, line, _ := strings.Cut(s.text, "\n")
	return line
}

// TestTutorialOverTwoMachines runs the tutorial, word by word, over a firewall; the relay is stopped where the page says so.
func TestTutorialOverTwoMachines(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	n.Filter(t, n.Inside, netns.InsideFirewall)
	n.Filter(t, n.Router, netns.RouterFirewall)
	nameRelay(t, n)
	relay, _ := machineIn(t, n.Outside)
	agent, agentHome := machineIn(t, n.Inside)

	var relayProcess *program.Process
	var relayCommand string
	steps := stepsOf(t, "docs/tutorial/two-machines.md")
	if len(steps) != 12 {
		t.Errorf("it has %d steps", len(steps))
	}
	for _, s := range steps {
		where := s.where()
		shell := relay
		if strings.HasPrefix(where, "On the agent's machine") {
			shell = agent
		} else if !strings.HasPrefix(where, "On relay.example.org") {
			t.Fatalf("%s does not say where it is for", s.place)
		}
		switch {
		case strings.HasSuffix(where, "while the relay is stopped"):
			relayProcess.Stop(t)
		case strings.HasSuffix(where, "after the relay was started again"):
			relayProcess = program.Start(t, relay(relayCommand))
		}
		switch {
		case strings.HasSuffix(where, ownTerminal) && relayProcess == nil:
			relayCommand = "exec " + commandOf(s)
			relayProcess = program.Start(t, relay(relayCommand))
		case strings.HasSuffix(where, ownTerminal):
			program.Start(t, shell("exec "+commandOf(s)))
		case strings.Contains(s.text, "agents token"):
			client.WriteFile(t, filepath.Join(agentHome, "token"), program.MustOutput(t, shell(s.text)))
		default:
			s.run(t, shell)
		}
	}
}
