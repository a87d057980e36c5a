package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/authority"
	"pushrelay/internal/mtls"
)

func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	mustRun(t, "--out", dir, "--server-name", "relay.test", "--server-name=192.0.2.1", "--agent", "site-1", "--agent", "site-2")

	want := []string{"ca.crt", "ca.key", "relay.crt", "relay.key", "site-1.crt", "site-1.key", "site-2.crt", "site-2.key"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(listing(t, dir)))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for _, name := range want {
		if stat, err := os.Stat(filepath.Join(dir, name)); err != nil || strings.HasSuffix(name, ".key") && stat.Mode().Perm() != 0o600 {
			t.Errorf("mode of %s = %v, %v, want 0600", name, stat.Mode(), err)
		}
	}
	if diff := cmp.Diff([]string{"192.0.2.1", "relay.test"}, authority.RelayNames(load(t, mtls.Relay, dir, "relay").Leaf())); diff != "" {
		t.Errorf("relay's names (-want +got):\n%s", diff)
	}
	for _, name := range []string{"site-1", "site-2"} {
		id, err := mtls.PeerIDFromCertificate(load(t, mtls.Agent, dir, name).Leaf())
		if err != nil || id.Agent != name || id.TrustDomain != authority.DefaultTrustDomain {
			t.Errorf("identity of %s = %v, %v", name, id, err)
		}
	}
}

func TestRunDefaults(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, "--out", dir)
	if diff := cmp.Diff([]string{"127.0.0.1", "localhost"}, authority.RelayNames(load(t, mtls.Relay, dir, "relay").Leaf())); diff != "" {
		t.Errorf("relay's names (-want +got):\n%s", diff)
	}
}

func TestRunAgainAddsAgentsAndKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, "--out", dir, "--server-name", "relay.test", "--agent", "site-1", "--trust-domain", "example.org")
	before := listing(t, dir)

	out := mustRun(t, "--out", dir, "--agent", "site-1", "--agent", "site-2")
	after := listing(t, dir)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s changed", name)
		}
	}
	if len(after) != len(before)+2 || after["site-2.key"] == "" {
		t.Errorf("files after: %q", slices.Sorted(maps.Keys(after)))
	}
	if strings.Count(out, "(kept)") != 2 || strings.Count(out, "(new)") != 1 {
		t.Errorf("output does not say what was kept and what is new:\n%s", out)
	}

	out = mustRun(t, "--out", dir, "--server-name", "other.test")
	if !strings.Contains(out, `new, because its names were ["relay.test"]`) {
		t.Errorf("output does not say that relay.crt was replaced, and why:\n%s", out)
	}
	if now := listing(t, dir); now["relay.crt"] == before["relay.crt"] || now["ca.crt"] != before["ca.crt"] {
		t.Error("want a new relay.crt of the same CA")
	}
}

func TestRunRefuses(t *testing.T) {
	full := t.TempDir()
	mustRun(t, "--out", full, "--agent", "site-1", "--agent", "site-2")
	keyGone, mixed, caGone := copyDir(t, full), copyDir(t, full), copyDir(t, full)
	remove(t, filepath.Join(keyGone, "site-1.key"))
	for _, ext := range []string{".crt", ".key"} {
		text, err := os.ReadFile(filepath.Join(mixed, "site-2"+ext))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mixed, "site-1"+ext), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, filepath.Join(caGone, "ca.key"))
	stranger, strangers := t.TempDir(), copyDir(t, full)
	mustRun(t, "--out", stranger, "--agent", "site-1")
	for _, ext := range []string{".crt", ".key"} {
		text, err := os.ReadFile(filepath.Join(stranger, "site-1"+ext))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(strangers, "site-1"+ext), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{name: "no directory", args: []string{"--agent", "a"}, want: "--out"},
		{name: "unknown flag", args: []string{"--out", full, "--nonsense"}, want: "--nonsense"},
		{name: "bad agent name", args: []string{"--out", full, "--agent", "Site"}, want: `"Site"`},
		{name: "agent named as the CA", args: []string{"--out", full, "--agent", "ca"}, want: "ca.crt"},
		{name: "agent named as the relay", args: []string{"--out", full, "--agent", "relay"}, want: "relay.crt"},
		{name: "bad server name", args: []string{"--out", full, "--server-name", "relay:9443"}, want: "leave out scheme, port"},
		{name: "another trust domain", args: []string{"--out", full, "--trust-domain", "example.org"}, want: `not "example.org"`},
		{name: "half an agent", args: []string{"--out", keyGone, "--agent", "site-1"}, want: "remove both"},
		{name: "another agent's files", args: []string{"--out", mixed, "--agent", "site-1"}, want: `of agent "site-2", not "site-1"`},
		{name: "files of another CA", args: []string{"--out", strangers, "--agent", "site-1"}, want: "issued by another CA"},
		{name: "half a CA", args: []string{"--out", caGone, "--agent", "site-3"}, want: "not whole"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := listing(t, full)
			err := run(tt.args, new(bytes.Buffer))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run(%q) error = %v, want one with %q", tt.args, err, tt.want)
			}
			if diff := cmp.Diff(before, listing(t, full)); diff != "" {
				t.Errorf("files changed (-before +after):\n%s", diff)
			}
		})
	}
}

func mustRun(tb testing.TB, args ...string) string {
	tb.Helper()
	var out bytes.Buffer
	if err := run(args, &out); err != nil {
		tb.Fatalf("run(%q) error = %v", args, err)
	}
	return out.String()
}

func load(tb testing.TB, role mtls.Role, dir, base string) *mtls.Material {
	tb.Helper()
	m, err := mtls.Load(role, mtls.Files{
		CertFile: filepath.Join(dir, base+".crt"), KeyFile: filepath.Join(dir, base+".key"), CAFile: filepath.Join(dir, "ca.crt"),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// listing returns the contents of the certificates and keys in a directory by name.
func listing(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	if err != nil {
		tb.Fatal(err)
	}
	texts := make(map[string]string)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		texts[filepath.Base(path)] = string(text)
	}
	return texts
}

func copyDir(tb testing.TB, from string) string {
	tb.Helper()
	to := tb.TempDir()
	for name, text := range listing(tb, from) {
		if err := os.WriteFile(filepath.Join(to, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return to
}

func remove(tb testing.TB, path string) {
	tb.Helper()
	if err := os.Remove(path); err != nil {
		tb.Fatal(err)
	}
}
