package engine

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// Bounds of what one transaction may be (C4), and of what is stored (C19).
const (
	MaxTxnOps       = 16 << 10
	MaxRequestBytes = 12 << 20
	QuotaBytes      = 8 << 30
)

// A member that has not heard the one that leads the engine for one to two times electionMs calls an election. Mostly that is over while the relays wait for
// their own leader (C6), and sometimes it takes a second or two longer; a disk or a machine that stands still for a moment is to cause none.
const (
	tickMs     = 100
	electionMs = 1000
)

// Config says which member of which cluster is started.
type Config struct {
	// Dir is the member's directory and nobody else's. It is created if it is missing. Required.
	Dir string
	// Name is the member's.
	Name string
	// Listen is the address on which other members are heard, host:port.
	Listen string
	// Members are the addresses, host:port, at which members are dialed, by name; also the one of this member.
	Members map[string]string
	// Join says that the cluster is there already.
	Join bool
	// ForceNew says that the member is to be the only one of a new cluster, with what its directory holds, whoever was a member before.
	ForceNew bool
	// Token tells clusters apart that were given the same addresses.
	Token string
	// Quota is how many bytes the member may store; 0 means QuotaBytes.
	Quota int64
	// TLS are the certificates between members. All or none are given; none is for tests on one machine.
	TLS TLS
	// AdminSocket is the absolute path of a Unix socket at which etcd takes clients as well, such as etcdctl: those of its owner and root. Empty for none.
	AdminSocket string
	// CheckValue returns an error for a value that is not what was written under its key; nil for that nothing is known of them. What a member's disk holds is
	// read before it starts.
	CheckValue func(key string, value []byte) error
	// Logger takes what etcd has to say; nil for nobody.
	Logger *zap.Logger
}

// TLS are the files of a member's certificate, its key, and the authority that has signed those of all members and nothing else (C17).
type TLS struct{ CertFile, KeyFile, CAFile string }

// Engine is a member that runs.
type Engine struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	ending atomic.Bool  // Close was called
	close  func() error // once
}

// Start starts a member and waits until it serves, which it does once a majority of its cluster runs, or until ctx ends.
func Start(ctx context.Context, cfg Config) (*Engine, error) {
	if err := cfg.checkSocket(ctx); err != nil {
		return nil, err
	}
	ec, err := cfg.embedded()
	if err != nil {
		return nil, err
	}
	if err := cfg.checkDatabase(); err != nil {
		return nil, err
	}
	etcd, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, fmt.Errorf("starting etcd in %s: %w", cfg.Dir, err)
	}
	if err := cfg.closeSocket(); err != nil {
		etcd.Close()
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		e := &Engine{etcd: etcd, client: v3client.New(etcd.Server)}
		e.close = sync.OnceValue(func() error {
			e.ending.Store(true)
			e.client.Close() //nolint:errcheck // It has no connection that could fail, and says that its context has ended.
			etcd.Close()
			return nil
		})
		return e, nil
	case err = <-etcd.Err():
	case <-etcd.Server.StopNotify():
		err = errors.New("it has stopped by itself, as one does that the cluster has removed")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	etcd.Close()
	return nil, fmt.Errorf("waiting for a majority of the cluster's members: %w", err)
}

// Client returns a client of the member itself: no connection is between them.
func (e *Engine) Client() *clientv3.Client { return e.client }

// HasLeader says whether the member knows of one that leads the engine, which it does while it hears a majority, and a little longer. It does not block.
func (e *Engine) HasLeader() bool { return e.etcd.Server.Leader() != 0 }

// Leads says whether the member leads the engine. It does not block.
func (e *Engine) Leads() bool { return e.etcd.Server.Leader() == e.etcd.Server.MemberID() }

// HandOver makes another member lead the engine, if this one does and there is another one. What is written meanwhile waits for that.
func (e *Engine) HandOver() error {
	if err := e.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
		return fmt.Errorf("letting another member lead the engine: %w", err)
	}
	return nil
}

// Defragment gives the member's free space back to the disk. The member answers nothing meanwhile. Its client cannot be asked for that.
func (e *Engine) Defragment() error { return e.etcd.Server.Defragment() }

// Err tells that the member has failed.
func (e *Engine) Err() <-chan error { return e.etcd.Err() }

// Close stops the member. If it leads, another one is made the leader before. What was closed stays so.
func (e *Engine) Close() error { return e.close() }

// scheme is that of addresses of members.
func (t *TLS) scheme() string {
	if *t == (TLS{}) {
		return "http"
	}
	return "https"
}

func (t *TLS) urls(address string) []url.URL {
	return []url.URL{{Scheme: t.scheme(), Host: address}}
}

// embedded returns the configuration as etcd has it. Clients have no port: the one client is in the same process, but for those at the socket.
func (cfg *Config) embedded() (*embed.Config, error) {
	own, named := cfg.Members[cfg.Name]
	if !named {
		return nil, fmt.Errorf("starting etcd: the member %q is not among the members of its cluster", cfg.Name)
	}
	ec := embed.NewConfig()
	ec.Name, ec.Dir = cfg.Name, cfg.Dir
	ec.ListenPeerUrls, ec.AdvertisePeerUrls = cfg.TLS.urls(cfg.Listen), cfg.TLS.urls(own)
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, cfg.TLS.urls(own)
	if cfg.AdminSocket != "" {
		ec.ListenClientUrls = []url.URL{{Scheme: "unix", Path: cfg.AdminSocket}}
	}
	ec.InitialCluster, ec.InitialClusterToken, ec.ClusterState = cfg.initial(), cfg.Token, embed.ClusterStateFlagNew
	if cfg.Join {
		ec.ClusterState = embed.ClusterStateFlagExisting
	}
	ec.MaxTxnOps, ec.MaxRequestBytes, ec.QuotaBackendBytes = MaxTxnOps, MaxRequestBytes, cmp.Or(cfg.Quota, QuotaBytes)
	ec.TickMs, ec.ElectionMs = tickMs, electionMs
	ec.EnableGRPCGateway, ec.ForceNewCluster = false, cfg.ForceNew
	if cfg.TLS != (TLS{}) {
		ec.PeerTLSInfo = transport.TLSInfo{
			CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, TrustedCAFile: cfg.TLS.CAFile, ClientCertAuth: true, MinVersion: tls.VersionTLS13,
			SkipClientSANVerify: true, // from which address a member comes says nothing: its certificate has that at which it is dialled
		}
	}
	logger := cfg.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	return ec, nil
}

// initial lists the members as etcd wants them.
func (cfg *Config) initial() string {
	var all []string
	for name, address := range cfg.Members {
		all = append(all, name+"="+cfg.TLS.scheme()+"://"+address)
	}
	return strings.Join(all, ",")
}
