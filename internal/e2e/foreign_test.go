//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// blocksBelow returns the blocks of a page in one language, below one heading.
func blocksBelow(t testing.TB, file, heading, language string) []block {
	t.Helper()
	_, text, found := strings.Cut(readFile(t, file), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", file, heading)
	}
	if end := strings.Index(text, "\n#"); end >= 0 {
		text = text[:end] // and no line of these blocks begins so
	}
	all, err := blocksOf(file, text)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, b := range all {
		if b.language == language {
			out = append(out, b)
		}
	}
	return out
}

var errStillThere = errors.New("it is still there")

// TestRecipeForOpenssl runs the recipe of the documentation as it is written, and a relay and agents with what comes of it; a revocation throws one
// of them out while it is connected.
func TestRecipeForOpenssl(t *testing.T) {
	t.Parallel()
	bash := requireProgram(t, "/usr/bin/bash", "bash")
	requireProgram(t, "/usr/bin/openssl", "openssl")
	blocks := blocksBelow(t, "../../docs/how-to/use-your-own-authority.md", "## With openssl", "sh")
	if len(blocks) != 4 {
		t.Fatalf("the recipe has %d blocks, want those of the authority, the relay, an agent, and a revocation", len(blocks))
	}
	dir := t.TempDir()
	do := func(b block, name string) {
		t.Helper()
		script := "set -euo pipefail\n" + strings.ReplaceAll(strings.Join(b.lines, "\n"), "site-a", name)
		mustOutput(t, command{path: bash, args: []string{"-c", script}, dir: dir})
	}
	do(blocks[0], "")
	do(blocks[1], "")
	do(blocks[2], "site-a")
	do(blocks[2], "site-b")
	in := func(file string) string { return filepath.Join(dir, file) }
	used := filepath.Join(t.TempDir(), "crl.pem")
	writeFile(t, used, readFile(t, in("crl.pem")))
	r := startRelay(t, "--grpc.tls.cert-file="+in("relay.crt"), "--grpc.tls.key-file="+in("relay.key"), "--grpc.tls.client-ca-file="+in("ca.crt"), "--grpc.tls.crl-file="+used)
	proxy := (&corporateProxy{hosts: map[string]string{relayName: r.grpc}}).start(t)
	agents := map[string]*agent{}
	for _, name := range []string{"site-a", "site-b"} {
		agents[name] = &agent{owner: t, name: name, url: "http://" + freeAddress(t), relay: r, dials: relayName}
		agents[name].command = command{path: programs.relayAgent, dir: t.TempDir(), args: []string{
			"--relay.address=" + relayName, "--relay.proxy-url=http://" + proxy.address, "--web.listen-address=" + strings.TrimPrefix(agents[name].url, "http://"),
			"--tls.ca-file=" + in("ca.crt"), "--tls.cert-file=" + in(name+".crt"), "--tls.key-file=" + in(name+".key"),
		}}
		agents[name].start(t)
		push(t, agents[name].url+"/metrics/job/j", "m 1\n")
		wantSeries(t, r.url, `m{agent="`+name+`", instance="", job="j"}`, 1)
	}
	do(blocks[3], "site-a")
	writeFile(t, used+".new", readFile(t, in("crl.pem")))
	if err := os.Rename(used+".new", used); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the agent is out", func() error {
		if ready := mustGet(t, agents["site-a"].url+"/-/ready"); !strings.Contains(ready, "this agent is revoked: its certificate") {
			return fmt.Errorf("%w: %s", errStillThere, ready)
		}
		return nil
	})
	if got := agents["site-b"].ask(t, http.MethodPut, "j", 2); got.status != http.StatusOK {
		t.Errorf("a push of the other agent: %d %s", got.status, got.body)
	}
}
