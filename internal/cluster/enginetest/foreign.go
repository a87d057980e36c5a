package enginetest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// A Foreign is an etcd that runs by itself, with TLS and users: relay, whose password is pass:word, may use the keys below /pushrelay/, and root everything.
type Foreign struct {
	// Endpoint is that of its members, with commas between them.
	Endpoint, CAFile string
	// CredentialsFile and RootFile are those of the two users.
	CredentialsFile, RootFile string
	// Root is a client that may do everything.
	Root *clientv3.Client

	members []*foreignMember
}

type foreignMember struct {
	config func() *embed.Config
	etcd   *embed.Etcd // nil while it does not run
}

// ForeignQuota is how much a foreign etcd may store.
const ForeignQuota = 1 << 30

// StartForeign starts an etcd of n members that takes so many operations and bytes at once. It is stopped when the test ends.
func StartForeign(t testing.TB, n int, ops, bytes uint) *Foreign {
	t.Helper()
	cert, err := transport.SelfCert(zap.NewNop(), t.TempDir(), []string{"127.0.0.1:0"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f := &Foreign{CAFile: cert.CertFile}
	var all, endpoints []string
	for i := range n {
		name, dir, at, peer := fmt.Sprint("etcd-", i), t.TempDir(), freeURL(t, "https"), freeURL(t, "http")
		all, endpoints = append(all, name+"="+peer[0].String()), append(endpoints, at[0].String())
		f.members = append(f.members, &foreignMember{config: func() *embed.Config {
			cfg := embed.NewConfig()
			cfg.BcryptCost = 4 // bcrypt.MinCost: a password takes seconds otherwise where the race detector looks on
			cfg.Name, cfg.Dir, cfg.MaxTxnOps, cfg.MaxRequestBytes, cfg.QuotaBackendBytes = name, dir, ops, bytes, ForeignQuota
			cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at, at
			cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
			cfg.InitialCluster = strings.Join(all, ",")
			cfg.ClientTLSInfo = transport.TLSInfo{CertFile: cert.CertFile, KeyFile: cert.KeyFile}
			cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
			return cfg
		}})
	}
	f.Endpoint = strings.Join(endpoints, ",")
	f.Start(t)
	t.Cleanup(f.Stop)
	root := v3client.New(f.members[0].etcd.Server)
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

// Start starts the members that do not run.
func (f *Foreign) Start(t testing.TB) {
	t.Helper()
	for _, m := range f.members {
		if m.etcd != nil {
			continue
		}
		var err error
		if m.etcd, err = embed.StartEtcd(m.config()); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range f.members {
		<-m.etcd.Server.ReadyNotify()
	}
}

// Stop stops the members that run.
func (f *Foreign) Stop() {
	for _, m := range f.members {
		m.stop()
	}
}

func (m *foreignMember) stop() {
	if m.etcd != nil {
		m.etcd.Close()
	}
	m.etcd = nil
}

// KillLeader ends the member that leads without any goodbye.
func (f *Foreign) KillLeader(t testing.TB) {
	t.Helper()
	f.kill(t, func(s *etcdserver.EtcdServer) bool { return s.Leader() == s.MemberID() })
}

// KillFollower ends one that does not lead.
func (f *Foreign) KillFollower(t testing.TB) {
	t.Helper()
	f.kill(t, func(s *etcdserver.EtcdServer) bool { return s.Leader() != s.MemberID() })
}

func (f *Foreign) kill(t testing.TB, which func(*etcdserver.EtcdServer) bool) {
	t.Helper()
	for _, m := range f.members {
		if m.etcd != nil && which(m.etcd.Server) {
			m.etcd.Server.HardStop()
			m.stop()
			return
		}
	}
	t.Fatal("no member of the etcd is of that kind")
}

// client returns one that is root, and speaks to etcd as others do.
func (f *Foreign) client(t testing.TB) *clientv3.Client {
	t.Helper()
	info := transport.TLSInfo{TrustedCAFile: f.CAFile}
	config, err := info.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(f.Endpoint, ","), TLS: config, Username: "root", Password: "secret", Logger: zap.NewNop()})
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
