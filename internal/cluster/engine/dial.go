package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DialConfig says which etcd that runs by itself is used.
type DialConfig struct {
	// Endpoints are the addresses of its members, with their schemes. Required.
	Endpoints []string
	// Prefix is what the keys begin with that may be used. Required.
	Prefix string
	// TLS are the files for connections by https. What is not given is not shown, and for the authority that of the system counts.
	TLS TLS
	// CredentialsFile has one line, user:password; empty for an etcd that asks for none.
	CredentialsFile string
	// Logger takes what the client has to say; nil for nobody.
	Logger *zap.Logger
}

// Limits are what an etcd takes in one transaction.
type Limits struct{ TxnOps, RequestBytes int }

// How connections to an etcd of its own are watched.
const (
	dialTimeout      = 5 * time.Second
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
	probeTimeout     = 30 * time.Second
	// besideRequest is what there is room for in a message beside what etcd counts.
	besideRequest = 1 << 20
)

// Dial returns a client of an etcd that runs by itself, and what that takes at once: nothing but trying tells. Whoever has the client closes it.
func Dial(ctx context.Context, cfg DialConfig) (*clientv3.Client, Limits, error) {
	cc := clientv3.Config{
		Endpoints: cfg.Endpoints, DialTimeout: dialTimeout, DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout,
		MaxCallSendMsgSize: MaxRequestBytes + besideRequest, RejectOldCluster: true, PermitWithoutStream: true, Logger: cfg.Logger,
	}
	if cc.Logger == nil {
		cc.Logger = zap.NewNop()
	}
	var err error
	if strings.HasPrefix(cfg.Endpoints[0], "https:") {
		info := transport.TLSInfo{CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, TrustedCAFile: cfg.TLS.CAFile}
		if cc.TLS, err = info.ClientConfig(); err != nil {
			return nil, Limits{}, fmt.Errorf("reading the certificates for etcd: %w", err)
		}
	}
	if cfg.CredentialsFile != "" {
		if cc.Username, cc.Password, err = readCredentials(cfg.CredentialsFile); err != nil {
			return nil, Limits{}, err
		}
	}
	client, err := clientv3.New(cc)
	if err != nil {
		return nil, Limits{}, fmt.Errorf("connecting to etcd at %q: %w", cfg.Endpoints, err)
	}
	limits, err := probe(ctx, client, cfg.Prefix)
	if err != nil {
		client.Close() //nolint:errcheck // What it could not find out says more.
		return nil, Limits{}, fmt.Errorf("finding out what etcd at %q takes: %w", cfg.Endpoints, err)
	}
	return client, limits, nil
}

// Quota returns how much each member of an etcd may store that runs by itself: that which may least.
func Quota(ctx context.Context, client *clientv3.Client, endpoints []string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	least := int64(0)
	for _, endpoint := range endpoints {
		s, err := client.Status(ctx, endpoint)
		if err != nil {
			return 0, fmt.Errorf("asking the member of etcd at %q for its quota: %w", endpoint, err)
		}
		if quota := cmp.Or(s.DbSizeQuota, etcdQuotaBytes); least == 0 || quota < least {
			least = quota
		}
	}
	return least, nil
}

// etcdQuotaBytes is what an etcd has that was not told.
const etcdQuotaBytes = 2 << 30

func readCredentials(file string) (user, password string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("reading the credentials for etcd: %w", err)
	}
	user, password, ok := strings.Cut(strings.TrimRight(string(text), "\r\n"), ":")
	if !ok || user == "" {
		return "", "", fmt.Errorf("reading the credentials for etcd: %q is to have one line, user:password", file)
	}
	return user, password, nil
}

// What an etcd may take at once, the most first. One that takes less than the least is not used.
var (
	possibleOps   = [...]int{MaxTxnOps, 8 << 10, 4 << 10, 2 << 10, 1 << 10, 512, 256, 128}
	possibleBytes = [...]int{MaxRequestBytes, 8 << 20, 6 << 20, 4 << 20, 3 << 20, 2 << 20, 3 << 19}
)

var errSmall = errors.New("its limits are too small: start it with --max-txn-ops=128 and --max-request-bytes=1572864 at least, which are its defaults")

// probe finds out what etcd takes by transactions that change nothing: what they compare is never so.
func probe(ctx context.Context, client *clientv3.Client, prefix string) (Limits, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	key := prefix + "probe"
	takes := func(ops ...clientv3.Op) error {
		_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", -1)).Then(ops...).Commit()
		return err
	}
	ops, err := most(possibleOps[:], func(n int) error {
		all := make([]clientv3.Op, n)
		for i := range all {
			all[i] = clientv3.OpGet(key)
		}
		return takes(all...)
	})
	if err != nil {
		return Limits{}, err
	}
	bytes, err := most(possibleBytes[:], func(n int) error { return takes(clientv3.OpPut(key, strings.Repeat("\x00", n-1024))) })
	return Limits{ops, bytes}, err
}

// most returns the first of the possible numbers that is not too large.
func most(possible []int, takes func(n int) error) (int, error) {
	for _, n := range possible {
		err := takes(n)
		if err == nil {
			return n, nil
		}
		if !isTooLarge(err) {
			return 0, err
		}
	}
	return 0, errSmall
}

// IsAway says whether an etcd could not be asked, and may be there another time.
func IsAway(err error) bool {
	code := status.Code(err)
	if refused, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = refused.Code()
	}
	return errors.Is(err, context.DeadlineExceeded) || code == codes.Unavailable || code == codes.DeadlineExceeded
}

// isTooLarge says whether etcd does not take a request for its size: some are refused before they are looked at.
func isTooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrTooManyOps) || errors.Is(err, rpctypes.ErrRequestTooLarge) ||
		status.Code(err) == codes.ResourceExhausted && !errors.Is(err, rpctypes.ErrNoSpace)
}
