package relay_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// TestPolicyIsRefusedWhole: at the start, and beside a good configuration file at a reload.
func TestPolicyIsRefusedWhole(t *testing.T) {
	opts := relaytest.Options(t)
	dir := t.TempDir()
	opts.ConfigFile, opts.PolicyFile = filepath.Join(dir, "relay.yml"), filepath.Join(dir, "policy.yml")
	write(t, opts.PolicyFile, "agents: []\n")
	write(t, opts.ConfigFile, "push_rules: []\n")
	r := relaytest.Start(t, opts)
	write(t, opts.PolicyFile, "users:\n- user: a\n  reads: b\n")
	write(t, opts.ConfigFile, "push_rules:\n- {match: '{job=\"a\"}', ttl: 1h}\n")
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "--policy.file: policy "+opts.PolicyFile+": line 3: unknown key") {
		t.Errorf("Reload() = %v", err)
	}
	if rules := r.Regime().Rules; len(rules) != 0 {
		t.Errorf("%d push rules hold beside a bad policy", len(rules))
	}
	if status, body := relaytest.Do(t, http.MethodPut, r.URL+"/metrics/job/a", "m 1\n"); status != http.StatusOK {
		t.Errorf("a push, of which the earlier policy says nothing = %d %q", status, body)
	}
	write(t, opts.PolicyFile, "users: []\n")
	write(t, opts.ConfigFile, "push_rules: {}\n")
	if err := r.Reload(); err == nil {
		t.Error("Reload with a bad configuration file is no error")
	}
	if status, body := relaytest.Do(t, http.MethodPut, r.URL+"/metrics/job/a", "m 1\n"); status != http.StatusOK {
		t.Errorf("a push beside a bad configuration file = %d %q", status, body)
	}
	r.Stop()
	for text, want := range map[string]string{"": "there is nothing in it", "user:\n": "unknown key", "users: [\n": "line 1"} {
		bad := relaytest.Options(t)
		bad.PolicyFile = filepath.Join(t.TempDir(), "policy.yml")
		write(t, bad.PolicyFile, text)
		if _, err := relay.New(bad); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the relay does not start with a wrong file") {
			t.Errorf("New with %q = %v", text, err)
		}
		if _, err := os.Stat(bad.DataDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a relay that does not start made its data dir: %v", err)
		}
	}
}
