package relay

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/common/version"
	"golang.org/x/sync/errgroup"
)

// httpGrace is how long HTTP requests that are still in flight after draining may take.
const httpGrace = 3 * time.Second

// Run runs the relay until ctx ends or somebody asks for it by /-/quit, or for another one in its place (errRestart), then drains it. It returns nil after an orderly
// end. The store is recovered first, while HTTP answers 503 already.
func (s *Server) Run(ctx context.Context) error {
	attrs := []any{"version", version.Version, "addr", s.Addr().String(), "pid", os.Getpid()}
	if s.grpc != nil {
		attrs = append(attrs, "grpc_addr", s.grpc.Addr().String())
	}
	s.logger.Info("relay starts", attrs...)

	// What serves outlives ctx: it serves while the relay drains.
	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	serving, serveCtx := errgroup.WithContext(serveCtx)
	serving.Go(func() error { return s.web.Run(serveCtx, http.HandlerFunc(s.serve), httpGrace) })
	if err := s.begin(ctx); err != nil {
		s.process.kept.LetGo()
		stopServing()
		if s.socket != nil {
			s.socket.Close()
		}
		err = errors.Join(err, serving.Wait(), s.closeGRPC(), s.closeLedger(), s.closeStore(), s.endMember())
		if ctx.Err() != nil {
			return nil // it was asked to end before it was ready
		}
		return err
	}
	s.beginLives()
	// What keeps, and what members share, outlives what serves: pushes that are in flight need it.
	keepCtx, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopKeeping()
	keeping, keepCtx := errgroup.WithContext(keepCtx)
	if s.cluster != nil {
		s.cluster.run(keepCtx, keeping)
		serving.Go(s.cluster.door.Serve)
	}
	s.durability.run(keepCtx, keeping)
	serving.Go(func() error { return s.lives.Run(serveCtx) })
	serving.Go(func() error { return s.agents.Run(serveCtx) })
	serving.Go(func() error { return s.quotas.Run(serveCtx) })
	serving.Go(func() error { return s.pages.Run(serveCtx) })
	if s.tunnel != nil {
		serving.Go(func() error { return s.tunnel.Serve(s.web.Guard(s.grpc)) })
		serving.Go(s.enrolment.Serve)
		serving.Go(func() error { return s.certificates.Run(serveCtx) })
	}
	if s.revocationLists != nil {
		serving.Go(func() error { return s.revocationLists.Run(serveCtx) })
	}
	if !s.hasFiles() && s.authority != nil {
		serving.Go(func() error { return s.renewCertificate(serveCtx) })
	}
	if s.socket != nil {
		serving.Go(func() error { return s.socket.Run(serveCtx, s.controlRoutes(), httpGrace) })
	}
	readyAt := time.Now()
	s.presence.readyAt.Store(&readyAt)
	s.state.Store(int32(ready))
	close(s.isReady)

	again := false
	select {
	case <-ctx.Done():
	case <-s.quit:
	case <-s.restart:
		again = true
	case <-serveCtx.Done(): // something failed; Wait has the reason
	case <-keepCtx.Done():
	}
	if !again {
		s.process.kept.LetGo()
	}
	if s.cluster != nil {
		s.cluster.endLead()
	}
	s.drain()
	stopServing()
	err := unlessCanceled(serving.Wait())
	stopKeeping()
	err = errors.Join(err, unlessCanceled(keeping.Wait()), s.closeLedger(), s.durability.end(), s.endMember())
	s.logger.Info("relay stopped")
	if err == nil && again {
		return errRestart
	}
	return err
}

func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// begin makes all that a relay is built on, and reads what it holds.
func (s *Server) begin(ctx context.Context) error {
	if s.cluster != nil {
		if err := s.cluster.begin(ctx); err != nil {
			return err
		}
	}
	if err := s.durability.recover(ctx); err != nil {
		return err
	}
	if s.cluster != nil {
		if err := s.cluster.recover(ctx); err != nil {
			return err
		}
	}
	if err := s.openControl(); err != nil {
		return err
	}
	return s.newTunnel()
}

// closeStore closes the store of a relay that does not come so far as to run; there may be none yet.
func (s *Server) closeStore() error {
	if s.durability == nil {
		return nil
	}
	return s.durability.close()
}

// endMember ends what a member of a cluster has beside the relay.
func (s *Server) endMember() error {
	if s.cluster == nil {
		return nil
	}
	return s.cluster.end()
}

// drain lets what is in flight finish (T7).
func (s *Server) drain() {
	s.state.Store(int32(draining))
	s.agents.Drain()
	if s.tunnel == nil {
		return
	}
	s.logger.Info("relay drains", slog.Duration("timeout", s.opts.ShutdownTimeout))
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.ShutdownTimeout) // the caller's context has ended; this one ends here
	defer cancel()
	s.tunnel.Drain(ctx)
	s.tunnel.Stop()
	s.enrolment.Stop()
	if s.cluster != nil {
		s.cluster.door.Stop()
	}
}
