package enginetest

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// A Foreign is an etcd that runs by itself, with TLS and users: relay, whose password is pass:word, may use the keys below /pushrelay/, and root everything.
type Foreign struct {
	Endpoint, CAFile string
	// CredentialsFile and RootFile are those of the two users.
	CredentialsFile, RootFile string
	// Root is a client that may do everything.
	Root *clientv3.Client

	config func() *embed.Config
	etcd   *embed.Etcd // nil while it does not run
}

// ForeignQuota is how much a foreign etcd may store.
const ForeignQuota = 1 << 30

// StartForeign starts an etcd of one member that takes so many operations and bytes at once. It is stopped when the test ends.
func StartForeign(t testing.TB, ops, bytes uint) *Foreign {
	t.Helper()
	cert, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1:0"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir, at, peer := t.TempDir(), freeURL(t, "https"), freeURL(t, "http")
	f := &Foreign{Endpoint: at[0].String(), CAFile: cert.CertFile}
	f.config = func() *embed.Config {
		cfg := embed.NewConfig()
		cfg.BcryptCost = 4 // bcrypt.MinCost: a password takes seconds otherwise where the race detector looks on
		cfg.Dir, cfg.MaxTxnOps, cfg.MaxRequestBytes, cfg.QuotaBackendBytes = dir, ops, bytes, ForeignQuota
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at, at
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
		cfg.InitialCluster = cfg.Name + "=" + peer[0].String()
		cfg.ClientTLSInfo = transport.TLSInfo{CertFile: cert.CertFile, KeyFile: cert.KeyFile}
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		return cfg
	}
	f.Start(t)
	t.Cleanup(f.Stop)
	root := v3client.New(f.etcd.Server)
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
	f.CredentialsFile, f.RootFile = credentials(t, "relay:pass:word"), credentials(t, "root:secret")
	f.Root = f.client(t)
	return f
}

// Start starts it again after Stop.
func (f *Foreign) Start(t testing.TB) {
	t.Helper()
	etcd, err := embed.StartEtcd(f.config())
	if err != nil {
		t.Fatal(err)
	}
	<-etcd.Server.ReadyNotify()
	f.etcd = etcd
}

// Stop stops it, if it runs.
func (f *Foreign) Stop() {
	if f.etcd != nil {
		f.etcd.Close()
	}
	f.etcd = nil
}

// client returns one that is root, and speaks to etcd as others do.
func (f *Foreign) client(t testing.TB) *clientv3.Client {
	t.Helper()
	info := transport.TLSInfo{TrustedCAFile: f.CAFile}
	config, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{f.Endpoint}, TLS: config, Username: "root", Password: "secret", Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() }) //nolint:errcheck // It is not used any more.
	return client
}

func credentials(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freeURL(t testing.TB, scheme string) []url.URL {
	t.Helper()
	return []url.URL{{Scheme: scheme, Host: freeAddress(t)}}
}
