package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/cluster/upkeep"
	"pushrelay/internal/control"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/keep/replicated"
	"pushrelay/internal/relayapi"
)

// WitnessOptions are the flags of a witness.
type WitnessOptions struct {
	// DataDir is one that has joined as a witness.
	DataDir string
	// AdminSocket is as [Options].ClusterEtcdAdminSocket.
	AdminSocket string
	// Logger is required.
	Logger *slog.Logger
}

// A witness is an etcd member of a cluster and nothing else: it counts for a majority, and nobody pushes to it or scrapes it (C18).
type witness struct {
	// static after openWitness
	opts   WitnessOptions
	dir    *membership.Dir
	socket *httpserver.Server
	logger *slog.Logger
	leave  context.CancelFunc // ends it, once it has left

	// static after begin
	engine       *engine.Engine
	certificates *membership.Certificates
}

// RunWitness runs a witness until ctx ends, or until it has left its cluster. It returns nil after an orderly end.
func RunWitness(ctx context.Context, opts WitnessOptions) error {
	w, err := openWitness(opts)
	if err != nil {
		return err
	}
	if w.dir.Member().Pending == membership.Leave {
		return w.end()
	}
	if w.socket, err = httpserver.ListenPrivate(filepath.Join(opts.DataDir, relayapi.ControlSocket), w.logger); err != nil {
		return fmt.Errorf("listening for commands: %w: is the path of the data dir too long for a socket, or does another witness run on it?", err)
	}
	ctx, w.leave = context.WithCancel(ctx)
	defer w.leave()
	w.logger.Info("witness starts", slog.String("version", version.Version), slog.String("member", w.dir.Member().Name))
	if err := w.begin(ctx); err != nil {
		w.socket.Close()
		if ctx.Err() != nil {
			return nil // it was asked to end before it was up
		}
		return err
	}
	err = w.run(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	err = errors.Join(err, w.engine.Close())
	if err == nil && w.dir.Member().Pending == membership.Leave {
		err = w.end()
	}
	w.logger.Info("witness stopped")
	return err
}

func openWitness(opts WitnessOptions) (*witness, error) {
	dir, err := membership.Open(opts.DataDir, version.Version)
	switch {
	case err != nil:
		return nil, err
	case dir == nil:
		return nil, fmt.Errorf("--data.dir %s is that of no witness: relay-server cluster token NAME --witness on a member, and relay-server cluster join TOKEN --witness here", opts.DataDir)
	case !dir.Member().Witness:
		return nil, fmt.Errorf("--data.dir %s is that of member %q, which is a relay: start it without the command witness", opts.DataDir, dir.Member().Name)
	}
	return &witness{opts: opts, dir: dir, logger: opts.Logger.With(slog.String("component", "cluster"))}, nil
}

// begin starts its etcd, and waits for a majority.
func (w *witness) begin(ctx context.Context) error {
	peers := membership.Peers{Dir: w.dir}
	if err := w.dir.Prepare(ctx, peers.Confirm); err != nil {
		return err
	}
	var err error
	if w.certificates, err = membership.NewCertificates(membership.CertificatesConfig{Dir: w.dir, Renew: peers.Renew, Logger: w.logger}); err != nil {
		return err
	}
	cfg := w.dir.Engine()
	cfg.Logger, cfg.AdminSocket = engine.NewLogger(w.logger), w.opts.AdminSocket
	w.logger.Info("waiting for a majority of the cluster's members", slog.String("member", cfg.Name))
	if w.engine, err = engine.Start(ctx, cfg); err != nil {
		return explainEngine(ctx, w.dir.Member(), err)
	}
	if err := w.dir.Enter(ctx, w.engine.Client()); err != nil {
		return errors.Join(err, w.engine.Close())
	}
	w.logger.Info("the witness counts for the cluster", slog.String("member", cfg.Name))
	return nil
}

// run runs what a witness has, until ctx ends.
func (w *witness) run(ctx context.Context) error {
	client := w.engine.Client()
	members := membership.NewMembers(membership.Config{
		Client: client, Engine: w.engine, Dir: w.dir, Release: version.Version, Level: featureLevel, Logger: w.logger,
	})
	office := membership.NewOffice(membership.OfficeConfig{
		DataDir: w.opts.DataDir, Release: version.Version, Dir: w.dir, Members: members, Client: client, Leader: w.leader, Restart: w.leave, Logger: w.logger,
	})
	// Its etcd gets its space back as those of relays do. It leads none, and compacts nothing.
	keptWell := upkeep.New(upkeep.Config{
		Client: client, Name: w.dir.Member().Name, Quota: engine.QuotaBytes, Turn: w.dir.Prefix() + turnKey, Leads: func() bool { return false }, Revisions: func() map[string]int64 { return nil },
		HandOver: func(context.Context) error { return w.engine.HandOver() }, Defragment: w.engine.Defragment, Logger: w.logger,
	})
	running, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{members.Run, w.certificates.Run, keptWell.Run} {
		running.Go(func() error { return part(ctx) })
	}
	running.Go(func() error { return w.socket.Run(ctx, witnessRoutes(office), httpGrace) })
	return running.Wait()
}

// witnessRoutes are those of the control socket of a witness: of the cluster, and of nothing else.
func witnessRoutes(o *membership.Office) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(out http.ResponseWriter, _ *http.Request) {
		http.Error(out, "this is a witness, which holds nothing for anybody: ask a relay of the cluster", http.StatusConflict)
	})
	cluster := control.ClusterHandler(o)
	mux.Handle(relayapi.ControlCluster, cluster)
	mux.Handle(relayapi.ControlCluster+"/", cluster)
	return mux
}

// askPatience bounds a question to the witness' own etcd, which nobody else has to answer.
const askPatience = time.Second

// leader returns which relay leads, as far as the witness' etcd knows.
func (w *witness) leader() string {
	ctx, cancel := context.WithTimeout(context.Background(), askPatience) // who asks has none
	defer cancel()
	name, err := replicated.ReadLeader(ctx, w.engine.Client(), w.dir.Prefix()+storeKeys)
	if err != nil {
		w.logger.Warn("who leads the cluster is not known", slog.Any("err", err))
	}
	return name
}

// end makes the data dir that of nobody. Nothing in it is of use to anybody.
func (w *witness) end() error {
	if err := w.dir.Done(); err != nil {
		return err
	}
	w.logger.Warn("this witness is no member of a cluster any more, and has ended")
	return nil
}
