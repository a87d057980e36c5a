//go:build linux && machines

// Tests that install what is released: on a fresh Debian that boots, in containers, and as rpm does. They need root, the packages that scripts/install-test-deps.sh
// installs, and two releases for this machine: see scripts/packages.sh.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// The releases that are installed, in the environment: the one before, and this one. Their folders, and this one's version.
var (
	oldRelease = os.Getenv("OLD_RELEASE")
	newRelease = os.Getenv("NEW_RELEASE")
	newVersion = os.Getenv("NEW_VERSION")
)

// command runs a program to its end, within four minutes, and returns all that it printed.
func command(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// must runs a program that has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// copyMatching copies the files of a folder that match a pattern.
func copyMatching(t *testing.T, from, pattern, to string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(from, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s has no %s: %v", from, pattern, err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "cp", append(paths, to)...)
}

// debian returns the root of a fresh Debian 12: $DEBIAN_ROOT, an archive of one, for whoever does this often, or one from Debian's mirror.
func debian(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "debian")
	if archive := os.Getenv("DEBIAN_ROOT"); archive != "" {
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, "tar", "--extract", "--file="+archive, "--directory="+root)
		return root
	}
	must(t, "mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,systemd-sysv,dbus", "--dpkgopt=force-unsafe-io", "bookworm", root)
	return root
}

// TestDebian: a machine that boots, with what its administrator does to it in testdata/machine.sh.
func TestDebian(t *testing.T) {
	root := debian(t)
	shared := t.TempDir() // seen in the machine as /srv/test
	copyMatching(t, oldRelease, "*_"+runtime.GOARCH+".deb", filepath.Join(shared, "old"))
	copyMatching(t, newRelease, "*_"+runtime.GOARCH+".deb", filepath.Join(shared, "new"))
	copyMatching(t, newRelease, "pushrelay-*.linux-"+runtime.GOARCH+".tar.gz", filepath.Join(shared, "new"))
	writePages(t, filepath.Join(shared, "pages"))
	copyMatching(t, "testdata", "machine.sh", shared)
	copyMatching(t, "testdata", "prometheus.yml", shared)
	must(t, "chmod", "-R", "a+rX", shared)
	unit := `[Unit]
After=multi-user.target
[Service]
Type=oneshot
Environment=NEW_VERSION=` + newVersion + `
ExecStart=/bin/bash /srv/test/machine.sh
ExecStopPost=/bin/sh -c 'echo "$$EXIT_STATUS" >/srv/test/status; systemctl poweroff --no-block'
StandardOutput=append:/srv/test/log
StandardError=inherit
[Install]
WantedBy=default.target
`
	for path, content := range map[string]string{"etc/systemd/system/machine.service": unit, "etc/hosts": "127.0.0.1 localhost\n"} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "systemctl", "--root="+root, "enable", "machine.service")
	for _, program := range []string{"prometheus", "promtool"} {
		must(t, "cp", "/usr/bin/"+program, filepath.Join(root, "usr/bin"))
	}

	console, err := command(t, "systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--private-network", "--directory="+root, "--bind="+shared+":/srv/test")
	log, _ := os.ReadFile(filepath.Join(shared, "log")) // that there is none is told by what it lacks
	status, _ := os.ReadFile(filepath.Join(shared, "status"))
	if err != nil || strings.TrimSpace(string(status)) != "0" || !strings.Contains(string(log), "== all of it was as it should\n") {
		t.Fatalf("the machine: %v, status %q\n%s\n%s", err, status, log, console)
	}

	// What rpm runs when a package comes and goes, which is written for another family of systems, and for every shell.
	t.Run("rpm", func(t *testing.T) {
		for _, program := range programs {
			file := rpmOf(t, newRelease, program)
			for _, do := range [][]string{{"--install", file}, {"--erase", program}} {
				out := must(t, "rpm", append([]string{"--force-debian", "--root=" + root, "--nodeps"}, do...)...)
				for line := range strings.Lines(out) {
					if !strings.HasPrefix(line, "Created symlink ") { // what systemctl says of presets
						t.Errorf("rpm %s: %s", do, line)
					}
				}
			}
		}
		if left, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*/relay-*")); err != nil || len(left) > 0 {
			t.Errorf("units are still enabled: %v %v", left, err)
		}
		if passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd")); err != nil || !strings.Contains(string(passwd), "\nrelay-agent:") {
			t.Errorf("there is no user of the agent: %s %v", passwd, err)
		}
	})
}

func rpmOf(t *testing.T, release, program string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(release, program+"-*."+map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]+".rpm"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%s has not one package of %s: %v %v", release, program, paths, err)
	}
	return paths[0]
}

// TestRPM: what rpm says of the packages, and what it does with files that were edited, in an empty root.
func TestRPM(t *testing.T) {
	root := t.TempDir()
	rpm := func(args ...string) string {
		t.Helper()
		return must(t, "rpm", append([]string{"--root=" + root, "--nodeps", "--noscripts"}, args...)...)
	}
	for _, program := range programs {
		said := must(t, "rpm", "--query", "--package", "--list", "--scripts", rpmOf(t, newRelease, program))
		for _, want := range []string{"/usr/bin/" + program + "\n", "/usr/lib/systemd/system/" + program + ".service\n", "systemctl --no-reload preset " + program + ".service", "try-restart " + program + ".service"} {
			if !strings.Contains(said, want) {
				t.Errorf("rpm -qpl --scripts does not say %q:\n%s", want, said)
			}
		}
		rpm("--install", rpmOf(t, oldRelease, program))
		edited := filepath.Join(root, "etc", program, program+".env")
		if err := os.WriteFile(edited, []byte("# edited\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		rpm("--upgrade", rpmOf(t, newRelease, program))
		if content, err := os.ReadFile(edited); err != nil || string(content) != "# edited\n" {
			t.Errorf("after the upgrade %s is %q, %v", edited, content, err)
		}
		if got := must(t, filepath.Join(root, "usr/bin", program), "--version"); !strings.Contains(got, newVersion) {
			t.Errorf("%s, want version %s", got, newVersion)
		}
		rpm("--erase", program)
		if _, err := os.Stat(filepath.Join(root, "usr/bin", program)); err == nil {
			t.Errorf("%s is still there", program)
		}
		if content, err := os.ReadFile(edited + ".rpmsave"); err != nil || string(content) != "# edited\n" {
			t.Errorf("what was edited is not kept: %q, %v", content, err)
		}
	}
}

// A pod is what podman keeps for one test, apart from what it has of others.
type pod struct {
	t    *testing.T
	args []string
}

// do runs podman.
func (p *pod) do(args ...string) (string, error) {
	p.t.Helper()
	return command(p.t, "podman", append(p.args, args...)...)
}

func (p *pod) must(args ...string) string {
	p.t.Helper()
	return must(p.t, "podman", append(p.args, args...)...)
}

// run starts a container of a program as somebody does who trusts it with nothing.
func (p *pod) run(name, image string, options, flags []string) {
	p.t.Helper()
	p.must(slices.Concat([]string{
		"run", "--detach", "--replace", "--name=" + name, "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--user=65534", "--read-only", "--cap-drop=all",
		"--security-opt=no-new-privileges", "--health-interval=disable", "--volume=" + name + "-data:/data",
	}, options, []string{image}, flags)...)
}

// eventually repeats podman until it succeeds, and says what the container has said if it never does.
func (p *pod) eventually(name string, args ...string) string {
	p.t.Helper()
	var out string
	var err error
	for range 300 {
		if out, err = p.do(args...); err == nil {
			return out
		}
		time.Sleep(100 * time.Millisecond) // another process gets ready
	}
	log, _ := p.do("logs", name)
	p.t.Fatalf("podman %s: %v\n%s\n%s", strings.Join(args, " "), err, out, log)
	return ""
}

// freeAddress returns an address of this machine on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestContainers: both images, loaded and run: a volume, a health check, enrolment by a variable of the environment, a push, and an end by SIGTERM.
func TestContainers(t *testing.T) {
	dir := t.TempDir()
	p := &pod{t, []string{"--root=" + dir + "/root", "--runroot=" + dir + "/runroot", "--runtime=runc", "--cgroup-manager=cgroupfs"}}
	t.Cleanup(func() { exec.Command("podman", append(p.args, "system", "reset", "--force")...).Run() }) // after the test, whose context has ended
	image := map[string]string{}
	for _, program := range programs {
		version := strings.TrimPrefix(newVersion, "v")
		p.must("load", "--input="+filepath.Join(newRelease, fmt.Sprintf("%s-%s.oci.tar", program, version)))
		image[program] = fmt.Sprintf("localhost/%s:%s", program, version)
	}
	web, tunnel, agent := freeAddress(t), freeAddress(t), freeAddress(t)
	runRelay := func() {
		t.Helper()
		p.run("relay", image["relay-server"], []string{"--env=RELAY_SERVER_ADDRESS=http://" + web, `--health-cmd=["relay-server","check-ready"]`},
			[]string{"--web.listen-address=" + web, "--grpc.listen-address=" + tunnel})
		p.eventually("relay", "healthcheck", "run", "relay")
	}
	runAgent := func(options ...string) {
		t.Helper()
		p.run("agent", image["relay-agent"], append(options, "--env=RELAY_AGENT_ADDRESS=http://"+agent, `--health-cmd=["relay-agent","status"]`), []string{"--web.listen-address=" + agent})
		p.eventually("agent", "healthcheck", "run", "agent")
	}
	stop := func(name string) {
		t.Helper()
		p.must("stop", "--time=30", name)
		if code := strings.TrimSpace(p.must("inspect", "--format={{.State.ExitCode}}", name)); code != "0" {
			log, _ := p.do("logs", name)
			t.Errorf("%s ended by SIGTERM with %s\n%s", name, code, log)
		}
	}

	runRelay()
	// A token is printed on standard output; what a person is told besides is not.
	token, err := exec.CommandContext(t.Context(), "podman", append(p.args, "exec", "relay", "relay-server", "agents", "token", "site-a", "--relay.address="+tunnel)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	runAgent("--env=RELAY_ENROLL_TOKEN=" + strings.TrimSpace(string(token)))
	ask(t, http.MethodPut, "http://"+agent+"/metrics/job/backup", "backup_bytes 48211\n")
	want := `backup_bytes{agent="site-a",instance="",job="backup"} 48211`
	if page := ask(t, http.MethodGet, "http://"+web+"/metrics", ""); !strings.Contains(page, want) {
		t.Errorf("the relay does not show %s:\n%s", want, page)
	}

	stop("relay")
	if out, err := p.do("healthcheck", "run", "agent"); err == nil {
		t.Errorf("the agent is healthy without its relay: %s", out)
	}
	stop("agent")
	// Other containers on the same volumes, the agent without a token: it is still one.
	runRelay()
	runAgent()
	if page := ask(t, http.MethodGet, "http://"+web+"/metrics", ""); !strings.Contains(page, want) {
		t.Errorf("after the restart the relay does not show %s:\n%s", want, page)
	}
	stop("agent")

	// The page about backups, word by word.
	dir = t.TempDir()
	backup := exec.CommandContext(t.Context(), "bash", "-euc", "podman() { command podman "+strings.Join(p.args, " ")+` "$@"; }`+"\n"+
		documented(t, "docs/how-to/backup-and-restore.md", "sh", "podman exec relay relay-server backup"))
	backup.Dir = dir
	if out, err := backup.CombinedOutput(); err != nil || !strings.Contains(string(out), "pushrelay.store: 1 group") {
		t.Errorf("the backup: %v\n%s", err, out)
	}
	if stat, err := os.Stat(filepath.Join(dir, "pushrelay.store")); err != nil || stat.Size() == 0 {
		t.Errorf("the backup is not here: %v", err)
	}
	if files := must(t, "tar", "--list", "--file="+filepath.Join(dir, "pushrelay-authority.tar")); !strings.Contains(files, "authority/ca.key") {
		t.Errorf("the backup of the authority has %s", files)
	}
	stop("relay")

	// TLS and a password, with files of whom it runs as.
	keys := filepath.Join(dir, "web")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	webFiles(t, keys)
	must(t, "chown", "-R", fmt.Sprint(nobody), keys)
	_, port, _ := net.SplitHostPort(web)
	p.run("relay", image["relay-server"], []string{
		"--volume=" + keys + ":/web:ro", "--env=RELAY_SERVER_ADDRESS=https://prometheus:secret@localhost:" + port, "--env=SSL_CERT_FILE=/web/web.crt",
		`--health-cmd=["relay-server","check-ready"]`,
	}, []string{"--web.listen-address=" + web, "--grpc.listen-address=" + tunnel, "--web.config.file=/web/web.yml"})
	p.eventually("relay", "healthcheck", "run", "relay")
	stop("relay")
}

// ask sends a request that has to succeed, and returns the answer.
func ask(t *testing.T, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %s %v", method, url, resp.Status, content, err)
	}
	return string(content)
}
