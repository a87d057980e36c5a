package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/enginetest"
)

// TestDial: an etcd that runs by itself is used with its certificates and its users, and within its limits (C4).
func TestDial(t *testing.T) {
	const ops, bytes = 300, 3 << 19
	foreign := enginetest.StartForeign(t, 1, ops, bytes)
	endpoint, caFile := foreign.Endpoint, foreign.CAFile
	credentials := func(text string) string {
		file := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := engine.DialConfig{
		Endpoints: []string{endpoint}, Prefix: "/pushrelay/", TLS: engine.TLS{CAFile: caFile}, CredentialsFile: credentials("relay:pass:word\n"),
	}
	client, limits, err := engine.Dial(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if want := (engine.Limits{TxnOps: 256, RequestBytes: bytes}); limits != want {
		t.Errorf("limits are %+v, want %+v", limits, want)
	}
	if resp, err := client.Get(t.Context(), "/pushrelay/", clientv3.WithPrefix()); err != nil || resp.Count != 0 {
		t.Errorf("after the limits were tried there are %d keys, %v", resp.Count, err)
	}
	if quota, err := engine.Quota(t.Context(), client, good.Endpoints); err != nil || quota != enginetest.ForeignQuota {
		t.Errorf("its quota is %d, %v", quota, err)
	}
	for name, tt := range map[string]struct {
		change func(*engine.DialConfig)
		want   error
		text   string
		isAway bool
	}{
		"a wrong password":  {func(c *engine.DialConfig) { c.CredentialsFile = credentials("relay:word") }, rpctypes.ErrAuthFailed, "", false},
		"foreign keys":      {func(c *engine.DialConfig) { c.Prefix = "/others/" }, rpctypes.ErrPermissionDenied, "", false},
		"no password":       {func(c *engine.DialConfig) { c.CredentialsFile = credentials("relay") }, nil, "one line, user:password", false},
		"no such file":      {func(c *engine.DialConfig) { c.CredentialsFile = "/nowhere" }, os.ErrNotExist, "", false},
		"no such authority": {func(c *engine.DialConfig) { c.TLS.CAFile = "/nowhere" }, os.ErrNotExist, "", false},
		"no certificate":    {func(c *engine.DialConfig) { c.TLS = engine.TLS{} }, nil, "connecting to etcd", true},
		"nobody is there":   {func(c *engine.DialConfig) { c.Endpoints = []string{"https://127.0.0.1:1"} }, nil, "connecting to etcd", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some wait until they give up
			cfg := good
			tt.change(&cfg)
			client, _, err := engine.Dial(t.Context(), cfg)
			if err == nil {
				client.Close()
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %v %s", err, tt.want, tt.text)
			}
			if engine.IsAway(err) != tt.isAway {
				t.Errorf("it may be there another time: %v; %v", !tt.isAway, err)
			}
		})
	}
}

// TestDialSmall: an etcd that takes less than any is started with is not used.
func TestDialSmall(t *testing.T) {
	foreign := enginetest.StartForeign(t, 1, 100, 1<<20)
	endpoint, caFile := foreign.Endpoint, foreign.CAFile
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("relay:pass:word"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := engine.Dial(t.Context(), engine.DialConfig{Endpoints: []string{endpoint}, Prefix: "/pushrelay/", TLS: engine.TLS{CAFile: caFile}, CredentialsFile: file})
	if err == nil || !strings.Contains(err.Error(), "--max-txn-ops") {
		t.Errorf("an etcd of small limits: %v", err)
	}
}
