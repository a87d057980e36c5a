//go:build linux

package hostile_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"pushrelay/internal/mtls"
)

// realAgent is an agent in a process of its own.
type realAgent struct {
	t        *testing.T
	url, log string
}

// startAgent starts an agent of the relay at the address, with a configuration file of that text and further flags, and stops it when the
// test ends.
func startAgent(t *testing.T, address string, files mtls.Files, config string, flags ...string) *realAgent {
	t.Helper()
	dir := t.TempDir()
	a := &realAgent{t: t, log: filepath.Join(dir, "log")}
	log, err := os.Create(a.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	file := filepath.Join(dir, "agent.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(relayAgent, append([]string{
		"--relay.address=" + address, "--tls.ca-file=" + files.CAFile, "--tls.cert-file=" + files.CertFile, "--tls.key-file=" + files.KeyFile,
		"--web.listen-address=127.0.0.1:0", "--data.dir=" + filepath.Join(dir, "data"), "--config.file=" + file,
	}, flags...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		hanging := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		defer hanging.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ended with %v:\n%s", err, tail(a.logged()))
		}
	})
	starts := regexp.MustCompile(`agent starts.* addr=(\S+)`)
	eventually(t, "agent listens", func() bool {
		found := starts.FindStringSubmatch(a.logged())
		if found != nil {
			a.url = "http://" + found[1]
		}
		return found != nil
	})
	return a
}

func (a *realAgent) logged() string {
	text, err := os.ReadFile(a.log)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

// attached waits until the agent says that it is.
func (a *realAgent) attached() {
	a.t.Helper()
	eventually(a.t, "agent is attached", func() bool { return regexp.MustCompile(`attached to relay`).MatchString(a.logged()) })
}
