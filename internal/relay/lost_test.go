package relay_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// runOnce starts and stops a relay on a data dir, and returns its log.
func runOnce(t *testing.T, dataDir string) string {
	t.Helper()
	var logged bytes.Buffer
	opts := relaytest.Options(t)
	opts.DataDir, opts.Logger = dataDir, slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := relay.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	relaytest.Eventually(t, "relay is ready", func() bool {
		status, _ := relaytest.Get(t, "http://"+server.Addr().String()+"/-/ready")
		return status == 200
	})
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return logged.String()
}

// TestLostParts takes away what belongs to a data dir that was in use. The relay says so, in words, and only then.
func TestLostParts(t *testing.T) {
	const store, noWord = "the store is missing", ""
	known := `{"version":1,"agents":[{"agent":"site","last_seen":"2100-01-01T00:00:00Z","targets":[]}]}`
	for name, tt := range map[string]struct {
		lose []string
		want string
	}{
		"nothing":               {nil, noWord},
		"the store":             {[]string{"store"}, store},
		"what is in it":         {[]string{"store/*"}, store},
		"all but the authority": {[]string{"store", "agents.json"}, store},
		"the known agents":      {[]string{"agents.json"}, noWord},
		"the certificate":       {[]string{"authority/relay.*"}, noWord},
		"both":                  {[]string{"store", "authority/relay.*"}, store},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if _, err := relay.InitAuthority(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := relay.IssueAgentCertificate(dir, "site", t.TempDir()); err != nil {
				t.Fatal(err)
			}
			if logged := runOnce(t, dir); logged != "" {
				t.Errorf("the first start, after a certificate was issued, logs %s", logged)
			}
			if err := os.WriteFile(filepath.Join(dir, "agents.json"), []byte(known), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, pattern := range tt.lose {
				files, err := filepath.Glob(filepath.Join(dir, pattern))
				if err != nil || len(files) == 0 {
					t.Fatalf("nothing matches %q: %v", pattern, err)
				}
				for _, file := range files {
					if err := os.RemoveAll(file); err != nil {
						t.Fatal(err)
					}
				}
			}
			logged := runOnce(t, dir)
			if !strings.Contains(logged, tt.want) || tt.want == noWord && logged != "" {
				t.Errorf("logged %q, want %q", logged, tt.want)
			}
			if logged := runOnce(t, dir); logged != "" {
				t.Errorf("the start after that logs %s", logged)
			}
		})
	}
}
