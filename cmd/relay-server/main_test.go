package main

import (
	"bytes"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// What a relay does without flags is said once, by its options.
func TestFlagsHaveTheDefaultsOfTheOptions(t *testing.T) {
	app := kingpin.New("relay-server", "")
	opts := serveFlags(app.Command("serve", "").Default())
	if _, err := app.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(relay.DefaultOptions(), opts()); diff != "" {
		t.Errorf("without flags (-DefaultOptions +flags):\n%s", diff)
	}
}

// TestLongTimesAreGivenInDays: also in hours, as the other durations.
func TestLongTimesAreGivenInDays(t *testing.T) {
	for text, want := range map[string]time.Duration{"3d": 72 * time.Hour, "72h": 72 * time.Hour, "0": 0, "0s": 0} {
		app := kingpin.New("relay-server", "")
		opts := serveFlags(app.Command("serve", "").Default())
		if _, err := app.Parse([]string{"--groups.forget-after=" + text}); err != nil {
			t.Fatal(err)
		}
		if got := opts().GroupsForgetAfter; got != want {
			t.Errorf("--groups.forget-after=%s is %v, want %v", text, got, want)
		}
	}
}

func TestCheckConfig(t *testing.T) {
	const match = "  - match: '{job=\"backup\"}'\n    "
	for name, tt := range map[string]struct {
		text           string
		code           int
		stdout, stderr string // FILE is the file
	}{
		"good":             {"push_rules:\n" + match + "every: 1d\n" + match + "grace: 1h\n", 0, "FILE: for --config.file: 2 push rules\n", ""},
		"empty":            {"", 0, "FILE: for --config.file: 0 push rules\n", ""},
		"a policy":         {"agents:\n- name: site-*\n  push: '{job=\"a\"}'\n- name: x\nusers: []\n", 0, "FILE: for --policy.file: 2 rules for agents, no rules for users, which allows them nothing\n", ""},
		"half a policy":    {"users:\n- user: ci\n", 0, "FILE: for --policy.file: no section agents, which forbids them nothing, 1 rule for users\n", ""},
		"a wrong policy":   {"users:\n- user: ci\n  reads: x\n", 1, "", "relay-server check-config: policy FILE: line 3: unknown key \"reads\" in a rule for users, want user, certificate, anonymous, read, scrape, push, delete, status, admin\n"},
		"two files":        {"users: []\npush_rules: []\n", 1, "", "relay-server check-config: FILE has sections of several files: push_rules belongs into that of --config.file, agents and users into that of --policy.file, tls_server_config, http_server_config, rate_limit, basic_auth_users into that of --web.config.file\n"},
		"users of the web": {"basic_auth_users:\n  ops: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n", 0, "FILE: for --web.config.file: no TLS, users with a password: 1\n", ""},
		"no hash":          {"basic_auth_users:\n  ops: hunter2\n", 1, "", "relay-server check-config: web configuration FILE: crypto/bcrypt: hashedSecret too short to be a bcrypted password\n"},
		"TLS without key":  {"tls_server_config: {cert_file: none.crt}\n", 1, "", "*"},
		"headers alone":    {"http_server_config: {http2: false}\n", 0, "FILE: for --web.config.file: no TLS, users with a password: 0\n", ""},
		"web and policy":   {"users: []\nbasic_auth_users: {}\n", 1, "", "*"},
		"certificates":     {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 1, "", "*"},
		"no file of ours":  {"rules: []\n", 1, "", "relay-server check-config: configuration FILE: line 1: unknown key \"rules\" in the file, want push_rules; a file for --policy.file has agents or users, one for --web.config.file tls_server_config, http_server_config, rate_limit, basic_auth_users\n"},
		"a wrong value":    {"push_rules:\n" + match + "every: 1d\n    grace: late\n", 1, "", "relay-server check-config: configuration FILE: line 4: grace is \"late\", want a duration such as 30m or 1d12h of at most 100y, or none\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "relay.yml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			code := run([]string{"check-config", file}, &stdout, &stderr)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(strings.ReplaceAll(tt.stdout, "FILE", file), stdout.String()); diff != "" {
				t.Errorf("stdout (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(strings.ReplaceAll(tt.stderr, "FILE", file), stderr.String()); diff != "" && (tt.stderr != "*" || stderr.Len() == 0) {
				t.Errorf("stderr (-want +got):\n%s", diff)
			}
		})
	}
	var stdout, stderr bytes.Buffer
	absent := filepath.Join(t.TempDir(), "absent.yml")
	if code := run([]string{"check-config", absent}, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), absent) {
		t.Errorf("a file that is not there: exit code %d, %s", code, stderr.String())
	}
	if code := run([]string{"check-config"}, &stdout, &stderr); code != 2 {
		t.Errorf("without a file: exit code %d, want 2", code)
	}
}

// TestCheckRevocationLists: in PEM and in DER, as for --grpc.tls.crl-file.
func TestCheckRevocationLists(t *testing.T) {
	dir := t.TempDir()
	inPEM, inDER := filepath.Join(dir, "crl.pem"), filepath.Join(dir, "crl.der")
	relaytest.NewCA(t, "example.org").WriteList(inPEM, big.NewInt(7))
	text, err := os.ReadFile(inPEM)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cut := filepath.Join(dir, "cut.pem")
	for file, content := range map[string][]byte{inDER: block.Bytes, cut: text[:len(text)/2]} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{inPEM, inDER} {
		stdout, stderr, code := command("check-config", file)
		if code != 0 || !strings.Contains(stdout, file+": for --grpc.tls.crl-file: 1 list of 1 revoked certificate, the next one due at ") {
			t.Errorf("%s: %d %s%s", file, code, stdout, stderr)
		}
	}
	if _, stderr, code := command("check-config", cut); code != 1 || !strings.Contains(stderr, "reading revocation lists") {
		t.Errorf("one that was cut short: %d %s", code, stderr)
	}
}
