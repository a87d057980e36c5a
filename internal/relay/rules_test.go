package relay_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushrelay/internal/lifetime"
	"pushrelay/internal/pushrules"
	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

const (
	oneRule  = "push_rules:\n- match: '{job=\"a\"}'\n  ttl: 1d\n"
	twoRules = oneRule + "- match: '{job=\"b\"}'\n  every: 1h\n"
	noRule   = "push_rules:\n- match: '{job=\"a\"}'\n  ttl: soon\n"
)

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantReload looks at what holds: so many rules, and whether the file was good when it was last read.
func wantReload(t testing.TB, when string, r *relaytest.Relay, rules int, successful string) {
	t.Helper()
	if got := len(r.Regime().Rules); got != rules {
		t.Errorf("%s there are %d rules, want %d", when, got, rules)
	}
	want := "# HELP relay_config_last_reload_successful Whether the configuration file and the policy file could be put to use when they were last read.\n" +
		"# TYPE relay_config_last_reload_successful gauge\nrelay_config_last_reload_successful " + successful + "\n"
	if err := testutil.GatherAndCompare(r.Telemetry(), strings.NewReader(want), "relay_config_last_reload_successful"); err != nil {
		t.Errorf("%s: %v", when, err)
	}
}

// TestReload: a file that is good holds at once and whole, and one that is not changes nothing.
func TestReload(t *testing.T) {
	var log bytes.Buffer // written by one goroutine at a time, and read after the end
	opts := relaytest.Options(t)
	opts.ConfigFile, opts.GroupsForgetAfter = filepath.Join(t.TempDir(), "relay.yml"), time.Hour
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	write(t, opts.ConfigFile, oneRule)
	r := relaytest.Start(t, opts)
	wantReload(t, "after the start", r, 1, "1")
	if got := r.Regime().ForgetAfter; got != time.Hour {
		t.Errorf("what is left is forgotten after %v, want 1h", got)
	}

	write(t, opts.ConfigFile, noRule)
	before := r.Regime().Rules
	err := r.Reload()
	if err == nil || !strings.Contains(err.Error(), "relay.yml: line 3: ttl is ") || !slices.EqualFunc(r.Regime().Rules, before, func(a, b lifetime.Rule) bool { return a.Declaration == b.Declaration }) {
		t.Errorf("Reload of a bad file: %v, and %+v holds", err, r.Regime())
	}
	wantReload(t, "after a bad file", r, 1, "0")

	write(t, opts.ConfigFile, twoRules)
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	wantReload(t, "after a good file", r, 2, "1")
	if got := r.Regime().ForgetAfter; got != time.Hour {
		t.Errorf("what is left is forgotten after %v since the reload, want 1h", got)
	}

	if err := os.Remove(opts.ConfigFile); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err == nil {
		t.Error("Reload of a file that is gone is no error")
	}
	wantReload(t, "after the file is gone", r, 2, "0")
	r.Stop()
	for _, want := range []string{`msg="configuration was not reloaded, the earlier one stays"`, `msg="configuration reloaded" file=` + opts.ConfigFile + ` push_rules=2`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}

// TestReloadWithoutFile is one of what holds anyway.
func TestReloadWithoutFile(t *testing.T) {
	r := relaytest.Start(t, relaytest.Options(t))
	if err := r.Reload(); err != nil {
		t.Error(err)
	}
	wantReload(t, "without a file", r, 0, "1")
	if got := r.Regime().ForgetAfter; got != 7*24*time.Hour {
		t.Errorf("what is left is forgotten after %v, want 7d", got)
	}
}

// TestReloadsSideBySide: what holds in the end is what the file says then.
func TestReloadsSideBySide(t *testing.T) {
	opts := relaytest.Options(t)
	opts.ConfigFile = filepath.Join(t.TempDir(), "relay.yml")
	write(t, opts.ConfigFile, oneRule)
	r := relaytest.Start(t, opts)
	write(t, opts.ConfigFile, twoRules)
	var reloads sync.WaitGroup
	for range 8 {
		reloads.Go(func() {
			if err := r.Reload(); err != nil {
				t.Error(err)
			}
		})
	}
	reloads.Wait()
	wantReload(t, "after eight reloads", r, 2, "1")
}

// TestReloadOverHTTP: the port is public, so that it is for those only who may end the relay as well.
func TestReloadOverHTTP(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yml")
	start := func(enabled bool) *relaytest.Relay {
		opts := relaytest.Options(t)
		opts.ConfigFile, opts.EnableLifecycle = file, enabled
		return relaytest.Start(t, opts)
	}
	write(t, file, oneRule)
	open, closed := start(true), start(false)
	ask := func(r *relaytest.Relay, method string, want int, says string) {
		t.Helper()
		status, body := relaytest.Do(t, method, r.URL+"/-/reload", "")
		if status != want || !strings.Contains(body, says) {
			t.Errorf("%s /-/reload = %d %q, want %d and %q", method, status, body, want, says)
		}
	}
	write(t, file, twoRules)
	ask(closed, http.MethodPost, http.StatusForbidden, "Lifecycle API is not enabled.")
	ask(closed, http.MethodPut, http.StatusForbidden, "Lifecycle API is not enabled.")
	wantReload(t, "after a reload that is not enabled", closed, 1, "1")
	ask(open, http.MethodGet, http.StatusMethodNotAllowed, "Only POST or PUT requests allowed.")
	wantReload(t, "after a GET", open, 1, "1")
	ask(open, http.MethodPost, http.StatusOK, "")
	wantReload(t, "after a POST", open, 2, "1")
	write(t, file, noRule)
	ask(open, http.MethodPost, http.StatusInternalServerError, "relay.yml: line 3: ttl is ")
	wantReload(t, "after a POST with a bad file", open, 2, "0")
	write(t, file, oneRule)
	ask(open, http.MethodPut, http.StatusOK, "")
	wantReload(t, "after a PUT", open, 1, "1")
}

// TestStartRefusesBadRules: in the words of a reload and of check-config, and before anything is made.
func TestStartRefusesBadRules(t *testing.T) {
	opts := relaytest.Options(t)
	opts.ConfigFile = filepath.Join(t.TempDir(), "relay.yml")
	write(t, opts.ConfigFile, noRule)
	_, checked := pushrules.Parse(opts.ConfigFile, []byte(noRule))
	if _, err := relay.New(opts); err == nil || !strings.Contains(err.Error(), "does not start with a wrong file, also if it ran with an earlier content: --config.file: "+checked.Error()) {
		t.Errorf("New() error = %v, want %v", err, checked)
	}
	if _, err := os.Stat(opts.DataDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data dir after that: %v, want none", err)
	}
	opts.ConfigFile, opts.GroupsForgetAfter = "", -time.Second
	if _, err := relay.New(opts); err == nil || !strings.Contains(err.Error(), "--groups.forget-after is -1s") {
		t.Errorf("New() error = %v, want one about --groups.forget-after", err)
	}
}
