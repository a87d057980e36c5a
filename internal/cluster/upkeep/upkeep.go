package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Config says what is kept well, and by whom.
type Config struct {
	// Client is of the cluster's etcd. Required.
	Client *clientv3.Client
	// Name is this member's.
	Name string
	// Endpoints are the members of an etcd of its own that is there for the relays alone: the relay that leads keeps all of them. Empty for an embedded one,
	// of which each relay keeps its own member.
	Endpoints []string
	// Quota is how many bytes a member may store. Required.
	Quota int64
	// Turn is the key that is there while a member is defragmented.
	Turn string
	// Leads says whether this relay leads, and must not block. Required.
	Leads func() bool
	// Revisions returns up to which revision the relays have everything that were heard within a minute, this one among them. Required.
	Revisions func() map[string]int64
	// HandOver lets other members lead what this one does, the relays and the engine. Required unless there are Endpoints.
	HandOver func(ctx context.Context) error
	// Defragment gives the free space of the embedded member back to the disk. Required unless there are Endpoints.
	Defragment func() error
	// Every is how often it is looked after; 0 means 30 s. Grace is how long before it is defragmented a member says that it is not to be asked; 0 means 5 s.
	Every, Grace time.Duration
	// Registerer takes the metrics; nil for nobody.
	Registerer prometheus.Registerer
	// Logger is required.
	Logger *slog.Logger
}

// Upkeep looks after an etcd. It is made by [New].
type Upkeep struct {
	cfg     Config // static
	metrics *metrics

	busy atomic.Pointer[string] // why this member is not to be asked
	full atomic.Pointer[string] // why nothing more can be kept
}

const (
	every = 30 * time.Second
	grace = 5 * time.Second
	// fullPercent is how much of the quota may be in use until nothing more is taken.
	fullPercent = 80
	// requestTimeout is how long etcd may take for one request that is soon done, and defragmentTimeout for giving space back.
	requestTimeout    = 10 * time.Second
	defragmentTimeout = 10 * time.Minute
	// turnSeconds is after how long a member that has died defragmenting is waited for no longer.
	turnSeconds = 900
)

// New returns what looks after an etcd once it runs.
func New(cfg Config) *Upkeep {
	if cfg.Every == 0 {
		cfg.Every = every
	}
	if cfg.Grace == 0 {
		cfg.Grace = grace
	}
	u := &Upkeep{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
	none := ""
	u.busy.Store(&none)
	u.full.Store(&none)
	return u
}

// Busy returns why this member is not to be asked, empty if it may be.
func (u *Upkeep) Busy() string { return *u.busy.Load() }

// Full returns why nothing more can be kept, empty while it can. It does not block.
func (u *Upkeep) Full() string { return *u.full.Load() }

// Run looks after it until ctx ends.
func (u *Upkeep) Run(ctx context.Context) error {
	tick := time.NewTicker(u.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := u.look(ctx); err != nil && ctx.Err() == nil {
			u.cfg.Logger.Warn("the cluster's etcd could not be looked after; trying again", slog.Any("err", err))
		}
	}
}

// look does what is due.
func (u *Upkeep) look(ctx context.Context) error {
	if u.cfg.Leads() {
		if err := u.compact(ctx); err != nil {
			return err
		}
	}
	sizes, err := u.measure(ctx)
	if err != nil {
		return err
	}
	if err := u.mend(ctx, sizes); err != nil {
		return err
	}
	if len(u.cfg.Endpoints) > 0 && !u.cfg.Leads() {
		return nil
	}
	for _, s := range sizes {
		if s.isDue(u.cfg.Quota) {
			return u.takeTurn(ctx, s) // the next one the next time
		}
	}
	return nil
}

// compact forgets what all relays have passed.
func (u *Upkeep) compact(ctx context.Context) error {
	to := int64(0)
	for _, revision := range u.cfg.Revisions() {
		if to == 0 || revision < to {
			to = revision
		}
	}
	if to == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := u.cfg.Client.Compact(ctx, to); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("compacting etcd: %w", err)
	}
	u.metrics.compacted.Set(float64(to))
	return nil
}

// A size is what one member stores.
type size struct {
	endpoint    string // empty for this one
	file, inUse int64
}

// isDue says whether a member is to give space back: where much of it is free, or where it is needed.
func (s size) isDue(quota int64) bool {
	return s.file > quota/16 && s.inUse < s.file/2 || s.file > quota/100*fullPercent && s.inUse < s.file/10*9
}

// measure finds out what is stored, and whether there is room for more.
func (u *Upkeep) measure(ctx context.Context) ([]size, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	endpoints := u.cfg.Endpoints
	if len(endpoints) == 0 {
		endpoints = []string{""}
	}
	var sizes []size
	largest := size{}
	for _, endpoint := range endpoints {
		s, err := u.cfg.Client.Status(ctx, endpoint)
		if err != nil {
			return nil, fmt.Errorf("asking a member of etcd for its size: %w", err)
		}
		sizes = append(sizes, size{endpoint, s.DbSize, s.DbSizeInUse})
		largest.file, largest.inUse = max(largest.file, s.DbSize), max(largest.inUse, s.DbSizeInUse)
	}
	u.metrics.bytes.Set(float64(largest.file))
	u.metrics.inUse.Set(float64(largest.inUse))
	full := ""
	if largest.inUse > u.cfg.Quota/100*fullPercent {
		full = fmt.Sprintf("the cluster's etcd has %d bytes in use, and %d %% of %d is as much as it takes pushes for: delete groups", largest.inUse, fullPercent, u.cfg.Quota)
	}
	u.full.Store(&full)
	return sizes, nil
}

// mend has etcd take something again after it has run full. Every member may: nothing can be written, so that there may be none that leads.
func (u *Upkeep) mend(ctx context.Context, sizes []size) error {
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	alarms, err := u.cfg.Client.AlarmList(asked)
	if err != nil {
		return fmt.Errorf("asking etcd for its alarms: %w", err)
	}
	for _, a := range alarms.Alarms {
		if a.GetAlarm() != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		u.cfg.Logger.Error("the cluster's etcd is full: mending it")
		if err := u.compact(ctx); err != nil {
			return err
		}
		for _, s := range sizes {
			if err := u.defragment(ctx, s.endpoint); err != nil {
				return err
			}
		}
		if after, err := u.measure(ctx); err != nil || !haveRoom(after, u.cfg.Quota) {
			return err
		}
		if _, err := u.cfg.Client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a)); err != nil {
			return fmt.Errorf("telling etcd that it has room again: %w", err)
		}
	}
	return nil
}

func haveRoom(sizes []size, quota int64) bool {
	for _, s := range sizes {
		if s.file > quota/20*19 {
			return false
		}
	}
	return true
}

// takeTurn defragments a member, unless another one is.
func (u *Upkeep) takeTurn(ctx context.Context, s size) error {
	asked, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lease, err := u.cfg.Client.Grant(asked, turnSeconds)
	if err != nil {
		return fmt.Errorf("taking the turn to defragment: %w", err)
	}
	defer func() {
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		u.cfg.Client.Revoke(ended, lease.ID) //nolint:errcheck // It ends by itself.
	}()
	resp, err := u.cfg.Client.Txn(asked).If(clientv3.Compare(clientv3.CreateRevision(u.cfg.Turn), "=", 0)).
		Then(clientv3.OpPut(u.cfg.Turn, u.cfg.Name, clientv3.WithLease(lease.ID))).Commit()
	if err != nil || !resp.Succeeded {
		return err
	}
	if s.endpoint == "" {
		busy, idle := "the member's etcd gives space back to the disk", ""
		u.busy.Store(&busy)
		defer u.busy.Store(&idle)
		select {
		case <-time.After(u.cfg.Grace):
		case <-ctx.Done():
			return nil
		}
		if err := u.cfg.HandOver(ctx); err != nil {
			return fmt.Errorf("handing over before defragmenting: %w", err)
		}
	}
	return u.defragment(ctx, s.endpoint)
}

// defragment gives the free space of a member back. It answers nothing meanwhile.
func (u *Upkeep) defragment(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, defragmentTimeout)
	defer cancel()
	began := time.Now()
	var err error
	if endpoint == "" {
		err = u.cfg.Defragment()
	} else {
		_, err = u.cfg.Client.Defragment(ctx, endpoint)
	}
	if err != nil {
		return fmt.Errorf("defragmenting a member of etcd: %w", err)
	}
	u.metrics.defragmentations.Inc()
	u.cfg.Logger.Info("a member of the cluster's etcd has given its free space back", slog.String("endpoint", endpoint), slog.Duration("duration", time.Since(began)))
	return nil
}
