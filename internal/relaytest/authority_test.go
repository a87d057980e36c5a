package relaytest_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/authority"
	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// warnings runs a relay on the data dir until it is ready, and returns what it warned of.
func warnings(t *testing.T, dataDir string) string {
	t.Helper()
	opts := relaytest.Options(t)
	opts.DataDir = dataDir
	var log bytes.Buffer // one handler writes one line at a time, and it is read after the end
	opts.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	relaytest.Start(t, opts).Stop()
	return log.String()
}

func TestFirstStartTellsOfItsAuthority(t *testing.T) {
	dataDir := filepath.Join(t.TempDir(), "data")
	first := warnings(t, dataDir)
	state, err := relay.InitAuthority(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	if state.Created {
		t.Error("InitAuthority() after the first start made an authority")
	}
	for _, want := range []string{"made a new certificate authority", state.Fingerprint, state.CAFile} {
		if !strings.Contains(first, want) {
			t.Errorf("the first start warned of %q, want %q in it", first, want)
		}
	}
	if again := warnings(t, dataDir); again != "" {
		t.Errorf("the second start warned of %q, want nothing", again)
	}
}

func TestLostAuthorityEndsTheRelay(t *testing.T) {
	opts := relaytest.Options(t)
	warnings(t, opts.DataDir)
	if err := os.Rename(filepath.Join(opts.DataDir, "authority"), filepath.Join(opts.DataDir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if _, err := relay.New(opts); err == nil || !strings.Contains(err.Error(), "has no certificate authority any more") {
		t.Errorf("New() after the loss: error = %v, want one that tells of it", err)
	}
	if _, err := relay.InitAuthority(opts.DataDir); err == nil {
		t.Error("InitAuthority() after the loss made another authority")
	}
	if _, err := os.Stat(filepath.Join(opts.DataDir, "authority")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("authority after that: %v, want none", err)
	}
	if err := os.Rename(filepath.Join(opts.DataDir, "elsewhere"), filepath.Join(opts.DataDir, "authority")); err != nil {
		t.Fatal(err)
	}
	if again := warnings(t, opts.DataDir); again != "" {
		t.Errorf("a start with the authority put back warned of %q, want nothing", again)
	}
}

// What is issued from a data dir that is not the relay's would be accepted by no relay.
func TestIssuingMakesNoAuthority(t *testing.T) {
	for name, dataDir := range map[string]string{"mistyped": filepath.Join(t.TempDir(), "none"), "empty": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			for what, issue := range map[string]func() (relay.Certificate, error){
				"agent": func() (relay.Certificate, error) { return relay.IssueAgentCertificate(dataDir, "site", out) },
				"relay": func() (relay.Certificate, error) {
					return relay.IssueRelayCertificate(dataDir, []string{"relay.test"}, out)
				},
			} {
				_, err := issue()
				if !errors.Is(err, authority.ErrNoAuthority) || !strings.Contains(err.Error(), dataDir) || !strings.Contains(err.Error(), "relay-server init") {
					t.Errorf("%s certificate: error = %v, want one that names the data dir and the way out", what, err)
				}
			}
			for _, path := range []string{filepath.Join(dataDir, "authority"), out} {
				if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s after that: %v, want none", path, err)
				}
			}
		})
	}
}

func TestInitForProvisioning(t *testing.T) {
	opts := relaytest.Options(t)
	made, err := relay.InitAuthority(opts.DataDir)
	if err != nil || !made.Created {
		t.Fatalf("InitAuthority() = %v, %v, want a new authority", made, err)
	}
	if _, err := relay.IssueAgentCertificate(opts.DataDir, "early", filepath.Join(t.TempDir(), "early")); err != nil {
		t.Errorf("issuing before the first start: %v", err)
	}
	if log := warnings(t, opts.DataDir); log != "" {
		t.Errorf("the start after init warned of %q, want nothing", log)
	}
	again, err := relay.InitAuthority(opts.DataDir)
	if made.Created = false; err != nil || again != made {
		t.Errorf("InitAuthority() again = %v, %v, want %v", again, err, made)
	}
}
