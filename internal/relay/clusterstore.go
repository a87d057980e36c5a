package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/version"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/cluster/shared"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/keep"
	"pushrelay/internal/keep/replicated"
	"pushrelay/internal/ledger"
	"pushrelay/internal/monotonic"
)

// bring makes the cluster's etcd hold what is pending: what the relay held when it was alone, or the same under another id.
func (c *clustered) bring(ctx context.Context, pending membership.Pending) error {
	if pending == membership.ForceNew {
		return replicated.Renew(ctx, c.client, c.dir.Prefix()+storeKeys)
	}
	if err := c.bringStore(ctx); err != nil {
		return err
	}
	return c.bringLedger(ctx)
}

// bringStore writes the store on the disk into the cluster.
func (c *clustered) bringStore(ctx context.Context) error {
	s := c.server
	if _, err := os.Stat(storeDir(s.dataDir)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	disk := keep.NewDisk(keep.Config{
		Dir: storeDir(s.dataDir), Release: version.Version, NoLock: s.opts.DataDirNoLock, Progress: s.opts.progress("reading the store"),
		Logger: s.logger.With(slog.String("component", "store")),
	})
	if err := disk.Recover(ctx); err != nil {
		return explainStoreError(s.dataDir, err)
	}
	begun := time.Now()
	err := replicated.Import{
		Client: c.client, Prefix: c.dir.Prefix() + storeKeys, Limits: replicated.Limits(c.limits), Store: disk.Store(), ID: disk.ID(), History: disk.History(), Progress: s.opts.progress("writing the store into the cluster"),
	}.Write(ctx)
	stats := disk.Store().Stats()
	if err = errors.Join(err, disk.Close()); err != nil {
		return err
	}
	c.logger.Info("the cluster begins with what this relay held", slog.Int("groups", stats.Groups), slog.Int("series", stats.Series), slog.Duration("duration", time.Since(begun)))
	return nil
}

// bringLedger writes the ledger of the data dir into the cluster.
func (c *clustered) bringLedger(ctx context.Context) error {
	own, err := ledger.Read(c.server.dataDir)
	if err != nil {
		return fmt.Errorf("--data.dir %s: %w", c.server.dataDir, err)
	}
	journal := shared.NewJournal(shared.LedgerConfig{Client: c.client, Prefix: c.dir.Prefix() + ledgerKeys, Release: version.Version, Grace: c.server.opts.AgentRenewalGrace, Revoked: func() {}, Logger: c.logger})
	if err := journal.Import(ctx, own); err != nil && !errors.Is(err, shared.ErrNotEmpty) {
		return err
	}
	return nil
}

// ledgerPatience bounds how long a backup waits for a majority to say what is in the ledger.
const ledgerPatience = 5 * time.Second

// refreshLedger has this relay's copy of the ledger count all that others have noted, so that no backup lacks what was revoked before it. Without a majority a
// backup is made all the same: it may be the last chance.
func (c *clustered) refreshLedger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	if err := c.journal.Refresh(ctx); err != nil {
		c.logger.Warn("the ledger in a backup may lack what other relays have revoked last", slog.Any("err", err))
	}
}

// becomeAlone makes a store on the disk of what the member's etcd holds, which does not run any more, or of what one that runs by itself holds now, under an id of
// its own. Begun again it has the same end.
func (c *clustered) becomeAlone(ctx context.Context) error {
	s := c.server
	m := c.dir.Member()
	if !m.HasOwnEtcd() {
		if err := c.connect(ctx); err != nil {
			return fmt.Errorf("leaving the cluster: %w", err)
		}
		defer c.disconnect() //nolint:errcheck // Nothing is asked of it any more.
	}
	making, made := storeDir(s.dataDir)+".leaving", storeDir(s.dataDir)
	if _, err := os.Lstat(made); errors.Is(err, os.ErrNotExist) {
		if err := c.makeStore(ctx, making); err != nil {
			return fmt.Errorf("leaving the cluster: %w", err)
		}
		if err := os.Rename(making, made); err != nil {
			return fmt.Errorf("leaving the cluster: %w", err)
		}
	}
	if !m.HasOwnEtcd() {
		if err := c.dir.Depart(ctx, c.client); err != nil {
			return err
		}
	}
	if err := c.dir.Done(); err != nil {
		return err
	}
	c.logger.Warn("this relay is no member of a cluster any more: it goes on alone, with what it held and under a new store id")
	return nil
}

// holdings reads the keys below a prefix that the member's etcd held last, or that one which runs by itself holds now.
func (c *clustered) holdings(ctx context.Context, prefix string, each func(key string, value []byte) error) error {
	if m := c.dir.Member(); m.HasOwnEtcd() {
		return engine.Read(ctx, c.dir.Engine().Dir, prefix, each)
	}
	return engine.ReadRunning(ctx, c.client, prefix, each)
}

// wholeAgain is after how long a store is read again that was just being written.
const wholeAgain = 100 * time.Millisecond

func (c *clustered) makeStore(ctx context.Context, dir string) error {
	if m := c.dir.Member(); !m.HasOwnEtcd() {
		if err := c.dir.CheckEtcd(ctx, c.client); err != nil {
			return err
		}
	}
	store := groupstore.New(groupstore.Config{})
	err := replicated.Stopped(ctx, c.dir.Prefix()+storeKeys, c.holdings, store)
	for c.client != nil && errors.Is(err, replicated.ErrUnfinished) { // somebody writes it
		if !monotonic.Sleep(ctx, wholeAgain) {
			return context.Cause(ctx)
		}
		err = replicated.Stopped(ctx, c.dir.Prefix()+storeKeys, c.holdings, store)
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	file := filepath.Join(c.server.dataDir, "leaving.backup")
	defer os.Remove(file) //nolint:errcheck // What is left of it is replaced by the next attempt.
	_, err = keep.ReceiveBackup(ctx, file, func(ctx context.Context, out io.Writer) error {
		return keep.BackUp(ctx, out, version.Version, store, nil)
	})
	if err != nil {
		return err
	}
	_, err = keep.Restore(ctx, keep.Place{Dir: dir, Release: version.Version, NoLock: c.server.opts.DataDirNoLock}, file, nil)
	return err
}
