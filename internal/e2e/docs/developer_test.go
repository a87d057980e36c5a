//go:build linux

package docs_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// TestDevelopmentCertificates: what certs/ makes is enough for a relay and its agents.
func TestDevelopmentCertificates(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	program.MustOutput(t, program.Command{Path: program.Certs(), Args: []string{
		"--out", dir, "--server-name", "relay.example.org", "--server-name", "127.0.0.1", "--agent", "site-a", "--agent", "site-b",
	}})
	for _, name := range []string{"ca", "relay", "site-a", "site-b"} {
		if _, err := os.Stat(filepath.Join(dir, name+".crt")); err != nil {
			t.Error(err)
		}
		key, err := os.Stat(filepath.Join(dir, name+".key"))
		if err != nil {
			t.Error(err)
		} else if key.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", key.Name(), key.Mode().Perm())
		}
	}

	r := house.StartRelay(t,
		"--grpc.tls.cert-file="+filepath.Join(dir, "relay.crt"), "--grpc.tls.key-file="+filepath.Join(dir, "relay.key"),
		"--grpc.tls.client-ca-file="+filepath.Join(dir, "ca.crt"))
	for _, name := range []string{"site-a", "site-b"} {
		a := house.StartAgentWith(t, r, name, "scrape_configs: []\n",
			"--tls.ca-file="+filepath.Join(dir, "ca.crt"),
			"--tls.cert-file="+filepath.Join(dir, name+".crt"), "--tls.key-file="+filepath.Join(dir, name+".key"))
		client.Push(t, a.URL+"/metrics/job/same", "m 1\n")
	}
	// One job pushed at two sites is two groups.
	client.WantSeries(t, r.URL, `m{agent="site-a", instance="", job="same"}`, 1)
	client.WantSeries(t, r.URL, `m{agent="site-b", instance="", job="same"}`, 1)
}

// TestDemo: what people see first works, and says so with its exit code when nobody sits there.
func TestDemo(t *testing.T) {
	t.Parallel()
	program.RequireProgram(t, "/usr/bin/prometheus", "prometheus") // it is a part of the play where it is installed
	bin := filepath.Dir(program.RelayServer())
	shown := program.MustOutput(t, program.Command{Path: program.Demo(), Args: []string{"--bin.dir=" + bin}})
	for _, want := range []string{
		`backup_last_success_bytes{agent="site-a",instance="db-1",job="backup"} 48211`,
		`"__metrics_path__": "/agents/site-a/targets/`,
		`push_up{agent="site-a",instance="db-1",job="nightly"} 0`, "gone; it is still down",
		`up{agent="site-a",job="node"} is 1`, "202 Accepted", `orders_total{agent="site-a",instance="db-1",job="orders"} 7`, `orders_total{agent="site-a"} is 7`,
		"All of it worked.", "/ in a browser.", "/graph?g0.expr=up",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("the demo does not show %s:\n%s", want, shown)
		}
	}

	r := program.Output(t, program.Command{Path: program.Demo(), Args: []string{"--bin.dir=" + t.TempDir()}})
	if r.Code != 1 || !strings.Contains(r.Stderr, "relay-server") {
		t.Errorf("a demo without programs: exit code %d %q, want 1 and the reason", r.Code, r.Stderr)
	}
}

// TestDemoAtATerminal: where somebody sits there it stays up, and Ctrl-C is a good end.
func TestDemoAtATerminal(t *testing.T) {
	t.Parallel()
	keys, screen := terminal(t)
	demo := program.Command{Path: program.Demo(), Args: []string{"--bin.dir=" + filepath.Dir(program.RelayServer())}}.Cmd(t)
	demo.Stdin, demo.Stdout, demo.Stderr = screen, screen, screen
	demo.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { demo.Process.Kill() })
	screen.Close()
	var shown strings.Builder
	for line := bufio.NewReader(keys); ; {
		text, err := line.ReadString('\n') // until the other side is gone
		shown.WriteString(text)
		if err != nil {
			break
		}
		if strings.Contains(text, "until Ctrl-C") {
			keys.WriteString("\x03")
		}
	}
	if err := demo.Wait(); err != nil || !strings.Contains(shown.String(), "until Ctrl-C") || strings.Contains(shown.String(), "demo:") {
		t.Errorf("the demo ended with %v:\n%s", err, shown.String())
	}
}

// terminal returns both ends of one: that of who sits there, and that of a program.
func terminal(t *testing.T) (keys, screen *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return keys, screen
}

// TestCertificatesOfARelay: what the relay issues is complete, private, and there while the relay runs.
func TestCertificatesOfARelay(t *testing.T) {
	t.Parallel()
	first := house.StartRelay(t)
	dir := filepath.Join(t.TempDir(), "second")
	program.MustOutput(t, program.Command{Path: program.RelayServer(), Args: []string{"--data.dir=" + first.DataDir, "relay-certificate", "--out=" + dir}})
	for _, name := range []string{"ca.crt", "relay.crt", "relay.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	// An agent of the first relay is welcome at the second one.
	second := house.StartRelay(t,
		"--grpc.tls.cert-file="+filepath.Join(dir, "relay.crt"), "--grpc.tls.key-file="+filepath.Join(dir, "relay.key"),
		"--grpc.tls.client-ca-file="+filepath.Join(dir, "ca.crt"))
	agent := first.Issue(t, "site-a")
	if key, err := os.Stat(filepath.Join(agent, "agent.key")); err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("agent.key: %v %v, want mode 0600", key, err)
	}
	house.StartAgentWith(t, second, "site-a", "scrape_configs: []\n",
		"--tls.ca-file="+filepath.Join(agent, "ca.crt"),
		"--tls.cert-file="+filepath.Join(agent, "agent.crt"), "--tls.key-file="+filepath.Join(agent, "agent.key"))
}
