//go:build linux

package docs_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/middlebox"
	"pushrelay/internal/e2e/program"
)

// blocksBelow returns the blocks of a page in one language, below one heading.
func blocksBelow(t testing.TB, file, heading, language string) []block {
	t.Helper()
	_, text, found := strings.Cut(client.ReadFile(t, file), "\n"+heading+"\n")
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
	bash := program.RequireProgram(t, "/usr/bin/bash", "bash")
	program.RequireProgram(t, "/usr/bin/openssl", "openssl")
	blocks := blocksBelow(t, "../../../docs/how-to/use-your-own-authority.md", "## With openssl", "sh")
	if len(blocks) != 4 {
		t.Fatalf("the recipe has %d blocks, want those of the authority, the relay, an agent, and a revocation", len(blocks))
	}
	dir := t.TempDir()
	do := func(b block, name string) {
		t.Helper()
		script := "set -euo pipefail\n" + strings.ReplaceAll(strings.Join(b.lines, "\n"), "site-a", name)
		program.MustOutput(t, program.Command{Path: bash, Args: []string{"-c", script}, Dir: dir})
	}
	do(blocks[0], "")
	do(blocks[1], "")
	do(blocks[2], "site-a")
	do(blocks[2], "site-b")
	in := func(file string) string { return filepath.Join(dir, file) }
	used := filepath.Join(t.TempDir(), "crl.pem")
	client.WriteFile(t, used, client.ReadFile(t, in("crl.pem")))
	r := house.StartRelay(t, "--grpc.tls.cert-file="+in("relay.crt"), "--grpc.tls.key-file="+in("relay.key"), "--grpc.tls.client-ca-file="+in("ca.crt"), "--grpc.tls.crl-file="+used)
	proxy := (&middlebox.CorporateProxy{Hosts: map[string]string{middlebox.RelayName: r.GRPC}}).Start(t)
	agents := map[string]*house.Agent{}
	for _, name := range []string{"site-a", "site-b"} {
		agents[name] = &house.Agent{Owner: t, Name: name, URL: "http://" + program.FreeAddress(t), Relay: r, Dials: middlebox.RelayName}
		agents[name].Command = program.Command{Path: program.RelayAgent(), Dir: t.TempDir(), Args: []string{
			"--relay.address=" + middlebox.RelayName, "--relay.proxy-url=http://" + proxy.Address, "--web.listen-address=" + strings.TrimPrefix(agents[name].URL, "http://"),
			"--tls.ca-file=" + in("ca.crt"), "--tls.cert-file=" + in(name+".crt"), "--tls.key-file=" + in(name+".key"),
		}}
		agents[name].Start(t)
		client.Push(t, agents[name].URL+"/metrics/job/j", "m 1\n")
		client.WantSeries(t, r.URL, `m{agent="`+name+`", instance="", job="j"}`, 1)
	}
	do(blocks[3], "site-a")
	client.WriteFile(t, used+".new", client.ReadFile(t, in("crl.pem")))
	if err := os.Rename(used+".new", used); err != nil {
		t.Fatal(err)
	}
	client.Eventually(t, client.Patience, "the agent is out", func() error {
		if ready := client.MustGet(t, agents["site-a"].URL+"/-/ready"); !strings.Contains(ready, "this agent is revoked: its certificate") {
			return fmt.Errorf("%w: %s", errStillThere, ready)
		}
		return nil
	})
	if got := agents["site-b"].Ask(t, http.MethodPut, "j", 2); got.Status != http.StatusOK {
		t.Errorf("a push of the other agent: %d %s", got.Status, got.Body)
	}
}
