package engine_test

import (
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"pushrelay/internal/cluster/engine"
)

// foreign starts an etcd that runs by itself, with small limits, TLS, and users.
func foreign(t *testing.T, ops, bytes uint) (endpoint, caFile string) {
	t.Helper()
	cert, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1:0"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := embed.NewConfig()
	cfg.Dir, cfg.MaxTxnOps, cfg.MaxRequestBytes = t.TempDir(), ops, bytes
	cfg.ListenClientUrls, cfg.ListenPeerUrls = freeURL(t, "https"), freeURL(t, "http")
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.Name + "=" + cfg.AdvertisePeerUrls[0].String()
	cfg.ClientTLSInfo = transport.TLSInfo{CertFile: cert.CertFile, KeyFile: cert.KeyFile}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	root := v3client.New(e.Server)
	_, err1 := root.UserAdd(t.Context(), "root", "secret")
	_, err2 := root.UserGrantRole(t.Context(), "root", "root")
	_, err3 := root.RoleAdd(t.Context(), "relays")
	_, err4 := root.RoleGrantPermission(t.Context(), "relays", "/pushrelay/", clientv3.GetPrefixRangeEnd("/pushrelay/"), clientv3.PermissionType(clientv3.PermReadWrite))
	_, err5 := root.UserAdd(t.Context(), "relay", "pass:word")
	_, err6 := root.UserGrantRole(t.Context(), "relay", "relays")
	_, err7 := root.AuthEnable(t.Context())
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		t.Fatal(err)
	}
	return cfg.ListenClientUrls[0].String(), cert.CertFile
}

func freeURL(t *testing.T, scheme string) []url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return []url.URL{{Scheme: scheme, Host: l.Addr().String()}}
}

// TestDial: an etcd that runs by itself is used with its certificates and its users, and within its limits (C4).
func TestDial(t *testing.T) {
	const ops, bytes = 300, 1 << 20
	endpoint, caFile := foreign(t, ops, bytes)
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
	for name, tt := range map[string]struct {
		change func(*engine.DialConfig)
		want   error
		text   string
	}{
		"a wrong password":  {func(c *engine.DialConfig) { c.CredentialsFile = credentials("relay:word") }, rpctypes.ErrAuthFailed, ""},
		"foreign keys":      {func(c *engine.DialConfig) { c.Prefix = "/others/" }, rpctypes.ErrPermissionDenied, ""},
		"no password":       {func(c *engine.DialConfig) { c.CredentialsFile = credentials("relay") }, nil, "one line, user:password"},
		"no such file":      {func(c *engine.DialConfig) { c.CredentialsFile = "/nowhere" }, os.ErrNotExist, ""},
		"no such authority": {func(c *engine.DialConfig) { c.TLS.CAFile = "/nowhere" }, os.ErrNotExist, ""},
		"no certificate":    {func(c *engine.DialConfig) { c.TLS = engine.TLS{} }, nil, "connecting to etcd"},
		"nobody is there":   {func(c *engine.DialConfig) { c.Endpoints = []string{"https://127.0.0.1:1"} }, nil, "connecting to etcd"},
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
		})
	}
}

// TestDialSmall: an etcd that takes less than any is started with is not used.
func TestDialSmall(t *testing.T) {
	endpoint, caFile := foreign(t, 100, 1<<20)
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("relay:pass:word"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := engine.Dial(t.Context(), engine.DialConfig{Endpoints: []string{endpoint}, Prefix: "/pushrelay/", TLS: engine.TLS{CAFile: caFile}, CredentialsFile: file})
	if err == nil || !strings.Contains(err.Error(), "--max-txn-ops") {
		t.Errorf("an etcd of small limits: %v", err)
	}
}
