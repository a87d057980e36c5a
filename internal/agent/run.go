package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/targets"
	"pushrelay/internal/wal"
)

// shutdownGrace is how long pushes in flight may take when the agent stops.
const shutdownGrace = 10 * time.Second

// Run runs the agent until ctx ends: first it stops taking pushes, then it leaves the relays, then it closes the spool. It
// returns nil after an orderly end. An agent that has no identity yet, and a join token, enrols before all that.
func (a *Agent) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	local, localCtx := errgroup.WithContext(ctx)
	serve := func() { local.Go(func() error { return a.web.Run(localCtx, &a.front, shutdownGrace) }) }
	if a.enrolment != nil {
		a.front.set(a.enrolment)
		serve()
		if err := a.enrolAndBuild(localCtx); err != nil {
			if localCtx.Err() != nil {
				err = nil // whoever ended it says why
			}
			stop()
			return errors.Join(err, local.Wait())
		}
	}
	a.logger.Info("agent starts", slog.String("version", version.Version), slog.String("agent", a.name), slog.String("relays", strings.Join(a.relays(), ",")), slog.String("addr", a.Addr().String()), slog.Int("pid", os.Getpid()))
	if err := a.spool.Recover(ctx); err != nil {
		stop()
		if a.enrolment == nil {
			a.web.Close()
		}
		return errors.Join(explainSpoolError(a.opts.DataDir, err), local.Wait())
	}
	a.front.set(a.routes())
	if a.enrolment == nil {
		serve()
	}
	linkCtx, leave := context.WithCancel(context.WithoutCancel(ctx)) // ended below, after the last push
	defer leave()
	links, _ := errgroup.WithContext(linkCtx)
	links.Go(func() error { return a.spool.Run(linkCtx) })
	for _, link := range a.links {
		links.Go(func() error { return link.Run(linkCtx) })
	}
	local.Go(func() error { return a.discovery.Run(localCtx) })
	local.Go(func() error { return a.textfiles.Run(localCtx) })
	for _, c := range a.credentials {
		local.Go(func() error { return c.certificates.Run(localCtx) })
		local.Go(func() error { return c.keep(localCtx) })
	}
	err := local.Wait()
	leave()
	err = errors.Join(err, links.Wait(), a.closeSpool())
	a.discovery.Close()
	a.logger.Info("agent stopped")
	return err
}

// enrolAndBuild enrols the agent, and makes its parts.
func (a *Agent) enrolAndBuild(ctx context.Context) error {
	a.logger.Info("agent enrols before it begins", slog.String("version", version.Version), slog.String("addr", a.Addr().String()), slog.Int("pid", os.Getpid()))
	if err := a.enrol(ctx); err != nil {
		return err
	}
	cfg, err := targets.Load(a.opts.ConfigFile)
	if err != nil {
		return err
	}
	return a.build(cfg)
}

// front hands requests to what answers them at the moment.
type front struct{ current atomic.Pointer[http.Handler] }

func (f *front) set(h http.Handler) { f.current.Store(&h) }

// ServeHTTP answers.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*f.current.Load()).ServeHTTP(w, r)
}

// Reload puts the configuration file to use as it is now, whole, or returns an error and changes nothing.
func (a *Agent) Reload() error {
	if !a.built.Load() {
		return errors.New("the agent has not enrolled yet, and reads its configuration when it has")
	}
	cfg, err := targets.Load(a.opts.ConfigFile)
	if err == nil {
		err = a.apply(cfg)
	}
	if err != nil {
		a.reloads.successful.Set(0)
		a.logger.Error("configuration was not reloaded, the earlier one stays", slog.Any("err", err))
		return err
	}
	a.logger.Info("configuration reloaded", slog.String("file", a.opts.ConfigFile), slog.Int("targets", len(a.discovery.Targets())), slog.Int("push_rules", len(cfg.PushRules)))
	return nil
}

// apply puts a configuration to use, or returns an error and changes nothing.
func (a *Agent) apply(cfg *targets.Config) error {
	if err := a.discovery.Apply(cfg); err != nil {
		return err
	}
	// A configuration that says nothing at all is not the way to have all groups of text files deleted.
	if cfg.ScrapeConfigs != nil || cfg.TextfileConfigs != nil || cfg.PushRules != nil {
		if err := a.textfiles.Apply(cfg.TextfileConfigs); err != nil {
			return err // not after targets.Load
		}
	}
	a.rules.set(cfg.PushRules)
	for _, warning := range append(cfg.Warnings, cfg.FileWarnings()...) {
		a.logger.Warn("configuration", slog.String("file", a.opts.ConfigFile), slog.String("warning", warning))
	}
	a.reloads.successful.Set(1)
	a.reloads.at.SetToCurrentTime()
	return nil
}

func (a *Agent) closeSpool() error {
	err := a.spool.Close()
	if errors.Is(err, wal.ErrUnwritable) {
		// Whatever was answered well is there, so that the end is an orderly one.
		a.logger.Error("the spool was closed while it could not be written: pushes that were answered with 503 may be lost", slog.Any("err", err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("closing the spool: %w", err)
	}
	return nil
}
