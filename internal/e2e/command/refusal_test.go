//go:build linux

package command_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/e2e/certificate"
	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// A mistake is a start that a program has to refuse: at once, with an exit code, one line that says what is wrong, and
// nothing left behind.
type mistake struct {
	name string
	args []string
	want []string // what the line has to name
}

// works is a command line that would serve, so that each mistake is the only one.
type works struct {
	path string
	args []string
}

// with returns the working flags with those of the mistake instead of the same ones.
func (w works) with(args ...string) program.Command {
	all := slices.DeleteFunc(slices.Clone(w.args), func(flag string) bool {
		name, _, _ := strings.Cut(flag, "=")
		return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, name+"=") || a == name })
	})
	return program.Command{Path: w.path, Args: append(all, args...)}
}

// without returns the command line that lacks some flags.
func (w works) without(names ...string) works {
	return works{w.path, slices.DeleteFunc(slices.Clone(w.args), func(flag string) bool {
		name, _, _ := strings.Cut(flag, "=")
		return slices.Contains(names, name)
	})}
}

func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	ca := certificate.New(t, "CA")
	good, other := ca.Sign(t, "relay", certificate.RelayTemplate()), ca.Sign(t, "other", certificate.RelayTemplate())
	old := ca.Sign(t, "old", certificate.Expired(certificate.RelayTemplate()))
	garbage := filepath.Join(t.TempDir(), "garbage")
	client.WriteFile(t, garbage, "this is neither PEM nor YAML: [\n")
	absent := filepath.Join(t.TempDir(), "absent")
	taken := listen(t)
	owned := house.StartRelay(t)

	// Every start has ports of its own: these run side by side.
	base := func(t *testing.T) works {
		return works{program.RelayServer(), append([]string{
			"--web.listen-address=" + program.FreeAddress(t), "--grpc.listen-address=" + program.FreeAddress(t), "--data.dir=data",
		}, good.RelayFlags(ca)...)}
	}
	mistakes := []mistake{
		{"unknown flag", []string{"--web.listen-port=:1"}, []string{"web.listen-port"}},
		{"mistyped flag", []string{"--web.listenaddress=:1"}, []string{"did you mean --web.listen-address?"}},
		{"stray argument", []string{"sirve"}, []string{"sirve"}},
		{"no duration", []string{"--push.timeout=soon"}, []string{"soon"}},
		{"negative duration", []string{"--push.timeout=-1s"}, []string{"push.timeout"}},
		{"no size", []string{"--push.max-body-size=many"}, []string{"many"}},
		{"no number", []string{"--push.max-series=x"}, []string{"x"}},
		{"log level", []string{"--log.level=loud"}, []string{"loud"}},
		{"impossible label", []string{"--push.agent-label=a-b"}, []string{"a-b"}},
		{"long label", []string{"--push.agent-label=" + strings.Repeat("a", 129)}, []string{"--push.agent-label", "128"}},
		{"no address", []string{"--web.listen-address=nonsense"}, []string{"nonsense"}},
		{"port taken", []string{"--web.listen-address=" + taken}, []string{taken}},
		{"agents' port taken", []string{"--grpc.listen-address=" + taken}, []string{taken}},
		{"certificate absent", []string{"--grpc.tls.cert-file=" + absent}, []string{absent}},
		{"certificate garbage", []string{"--grpc.tls.cert-file=" + garbage}, []string{garbage}},
		{"key absent", []string{"--grpc.tls.key-file=" + absent}, []string{absent}},
		{"key garbage", []string{"--grpc.tls.key-file=" + garbage}, []string{garbage}},
		{"key of another certificate", []string{"--grpc.tls.key-file=" + other.KeyFile}, []string{other.KeyFile}},
		{"CA garbage", []string{"--grpc.tls.client-ca-file=" + garbage}, []string{garbage}},
		{"certificate expired", []string{"--grpc.tls.cert-file=" + old.CertFile, "--grpc.tls.key-file=" + old.KeyFile}, []string{old.CertFile, "expired"}},
		{"web configuration absent", []string{"--web.config.file=" + absent}, []string{absent}},
		{"web configuration garbage", []string{"--web.config.file=" + garbage}, []string{"garbage"}},
		{"configuration absent", []string{"--config.file=" + absent}, []string{absent}},
		{"configuration garbage", []string{"--config.file=" + garbage}, []string{garbage, "line"}},
		{"data dir below a file", []string{"--data.dir=" + filepath.Join(garbage, "data")}, []string{garbage}},
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, base(t).with(m.args...), m.want)
		})
	}
	t.Run("data dir of another relay", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, base(t).with("--data.dir="+owned.DataDir), []string{owned.DataDir})
	})
	t.Run("certificate without key", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, base(t).without("--grpc.tls.key-file").with(), []string{"grpc.tls.key-file"})
	})
	t.Run("data dir not writable", func(t *testing.T) {
		t.Parallel()
		dir := readOnlyDir(t)
		c := base(t).without("--grpc.tls.cert-file", "--grpc.tls.key-file", "--grpc.tls.client-ca-file").with("--data.dir=" + filepath.Join(dir, "data"))
		c.Dir = dir
		wantRefused(t, asNobody(t, c), []string{dir})
	})
	t.Run("certificate for an impossible agent", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, program.Command{Path: program.RelayServer(), Args: []string{
			"--data.dir=" + owned.DataDir, "agent-certificate", "Not A Name", "--out=out",
		}}, []string{"Not A Name"})
	})
	t.Run("certificate without a CA", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, program.Command{Path: program.RelayServer(), Args: []string{
			"--data.dir=" + filepath.Join(garbage, "data"), "agent-certificate", "site-a", "--out=out",
		}}, []string{garbage})
	})
	if page := client.MustGet(t, owned.URL+"/-/ready"); page == "" {
		t.Error("the relay whose folder was asked for is no longer ready")
	}
}

func TestAgentRefuses(t *testing.T) {
	t.Parallel()
	ca := certificate.New(t, "CA")
	const identity = "spiffe://example.org/agent/site-a"
	good, other := ca.Sign(t, "agent", certificate.AgentTemplate(t, identity)), ca.Sign(t, "other", certificate.AgentTemplate(t, identity))
	old := ca.Sign(t, "old", certificate.Expired(certificate.AgentTemplate(t, identity)))
	anonymous := ca.Sign(t, "anonymous", certificate.AgentTemplate(t))
	garbage := filepath.Join(t.TempDir(), "garbage")
	client.WriteFile(t, garbage, "this is neither PEM nor YAML: [\n")
	absent := filepath.Join(t.TempDir(), "absent")
	taken := listen(t)

	config := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		client.WriteFile(t, path, text)
		return path
	}
	relabel := config("relabel.yml", "scrape_configs:\n  - job_name: a\n    static_configs: [{targets: ['h:1']}]\n    relabel_configs: []\n")
	discovery := config("discovery.yml", "scrape_configs:\n  - job_name: a\n    dns_sd_configs: [{names: [a]}]\n")
	unknown := config("unknown.yml", "scrape_configs:\n  - job_name: a\n    scrape_intervall: 5s\n")
	nameless := config("nameless.yml", "scrape_configs:\n  - static_configs: [{targets: ['h:1']}]\n")
	twice := config("twice.yml", "scrape_configs:\n  - job_name: same\n  - job_name: same\n")
	address := config("address.yml", "scrape_configs:\n  - job_name: a\n    static_configs:\n      - targets: ['http://h:1/x']\n")

	base := func(t *testing.T) works {
		return works{program.RelayAgent(), append([]string{
			"--relay.address=127.0.0.1:1", "--web.listen-address=" + program.FreeAddress(t),
		}, good.AgentFlags(ca)...)}
	}
	mistakes := []mistake{
		{"unknown flag", []string{"--relay.host=x:1"}, []string{"relay.host"}},
		{"stray argument", []string{"run"}, []string{"run"}},
		{"relay without port", []string{"--relay.address=relay.example.org"}, []string{"relay.example.org"}},
		{"relay as a URL", []string{"--relay.address=https://relay.example.org:9443"}, []string{"https://relay.example.org:9443"}},
		{"proxy that is no URL", []string{"--relay.proxy-url=:nonsense"}, []string{":nonsense"}},
		{"no duration", []string{"--push.wait=soon"}, []string{"soon"}},
		{"no size", []string{"--push.max-body-size=many"}, []string{"many"}},
		{"log level", []string{"--log.level=loud"}, []string{"loud"}},
		{"no address", []string{"--web.listen-address=nonsense"}, []string{"nonsense"}},
		{"port taken", []string{"--web.listen-address=" + taken}, []string{taken}},
		{"certificate absent", []string{"--tls.cert-file=" + absent}, []string{absent}},
		{"certificate garbage", []string{"--tls.cert-file=" + garbage}, []string{garbage}},
		{"key absent", []string{"--tls.key-file=" + absent}, []string{absent}},
		{"key garbage", []string{"--tls.key-file=" + garbage}, []string{garbage}},
		{"key of another certificate", []string{"--tls.key-file=" + other.KeyFile}, []string{other.KeyFile}},
		{"CA absent", []string{"--tls.ca-file=" + absent}, []string{absent}},
		{"CA garbage", []string{"--tls.ca-file=" + garbage}, []string{garbage}},
		{"certificate expired", []string{"--tls.cert-file=" + old.CertFile, "--tls.key-file=" + old.KeyFile}, []string{old.CertFile, "expired"}},
		{"certificate without identity", []string{"--tls.cert-file=" + anonymous.CertFile, "--tls.key-file=" + anonymous.KeyFile}, []string{anonymous.CertFile}},
		{"configuration absent", []string{"--config.file=" + absent}, []string{absent}},
		{"configuration garbage", []string{"--config.file=" + garbage}, []string{garbage}},
		{"relabelling", []string{"--config.file=" + relabel}, []string{relabel, "line 4", "relabel_configs"}},
		{"another discovery", []string{"--config.file=" + discovery}, []string{discovery, "line 3", "dns_sd_configs"}},
		{"unknown key", []string{"--config.file=" + unknown}, []string{unknown, "line 3", "scrape_intervall"}},
		{"job without name", []string{"--config.file=" + nameless}, []string{nameless, "line 2", "job_name"}},
		{"job twice", []string{"--config.file=" + twice}, []string{twice, "line 3", "same"}},
		{"target that is a URL", []string{"--config.file=" + address}, []string{address, "line", "http://h:1/x"}},
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, base(t).with(m.args...), m.want)
		})
	}
	t.Run("no relay", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, base(t).without("--relay.address").with(), []string{"relay.address"})
	})
	t.Run("no key", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, base(t).without("--tls.key-file").with(), []string{"tls.key-file"})
	})
}

// TestRelayWithoutDataDir: a unit that worked for a Pushgateway has no working directory that it may write to. The relay
// serves from there all the same, and says once that it keeps nothing.
func TestRelayWithoutDataDir(t *testing.T) {
	t.Parallel()
	web := program.FreeAddress(t)
	dir := readOnlyDir(t)
	p := program.Start(t, asNobody(t, program.Command{Path: program.RelayServer(), Dir: dir, Args: []string{"--web.listen-address=" + web}}))
	program.WaitReady(t, p, "http://"+web)
	client.Push(t, "http://"+web+"/metrics/job/j", "m 1\n")
	client.WantSeries(t, "http://"+web, `m{instance="", job="j"}`, 1)
	warnings := 0
	for line := range strings.Lines(p.Log.String()) {
		if program.IsComplaint(line) {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("the log has %d warnings, want exactly one that says that nothing is kept:\n%s", warnings, p.Log.String())
	}
	p.Stop(t)
}

// wantRefused starts a program that must not start.
func wantRefused(t testing.TB, c program.Command, want []string) {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	r := program.Output(t, c)
	if r.Code <= 0 {
		t.Errorf("exit code %d, want one that says failure", r.Code)
	}
	var complaints []string
	for line := range strings.Lines(r.Stdout + r.Stderr) {
		upper := strings.ToUpper(line)
		if !strings.Contains(upper, "LEVEL=INFO") && !strings.Contains(upper, "LEVEL=DEBUG") {
			complaints = append(complaints, line)
		}
	}
	if len(complaints) != 1 {
		t.Errorf("%d lines of complaint, want exactly one:\n%s", len(complaints), r.Stdout+r.Stderr)
	}
	for _, words := range want {
		if !strings.Contains(strings.Join(complaints, ""), words) {
			t.Errorf("the complaint does not name %q:\n%s", words, complaints)
		}
	}
	if left := filesIn(t, c.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// filesIn lists what is below a folder.
func filesIn(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// listen takes a port for the time of the test.
func listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", program.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// readOnlyDir is a folder that nobody may write to and everybody may enter.
func readOnlyDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pushrelay-e2e-readonly-") //nolint:usetesting // the parent of TempDir lets only its owner in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asNobody runs a command without root's rights: root may write everywhere.
func asNobody(t testing.TB, c program.Command) program.Command {
	t.Helper()
	if os.Geteuid() != 0 {
		return c
	}
	c.Args = append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", program.ForAnybody(t, c.Path)}, c.Args...)
	c.Path = "setpriv"
	return c
}
