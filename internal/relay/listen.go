package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"pushrelay/internal/httpserver"
)

// listen binds all listeners, or none.
func (s *Server) listen() error {
	var err error
	if s.web, err = httpserver.Listen(httpserver.Config{Flags: s.opts.Web, Kept: s.process.kept, Logger: s.logger}); err != nil {
		return err
	}
	if s.opts.DataDir == "" && s.opts.GRPCTLS.CertFile == "" {
		return nil // agents cannot dial in
	}
	s.grpc, err = s.process.kept.Listen("grpc", func() (net.Listener, error) {
		return new(net.ListenConfig).Listen(context.Background(), "tcp", s.opts.GRPCListenAddress)
	})
	if err != nil {
		s.web.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: another program has that port: choose another one, and have the agents dial that", err)
		}
		return fmt.Errorf("--grpc.listen-address %s: %w", s.opts.GRPCListenAddress, err)
	}
	return nil
}

// closeGRPC closes the agents' port of a relay that turns out to have no certificate for it.
func (s *Server) closeGRPC() error {
	if s.grpc == nil {
		return nil
	}
	err := s.grpc.Close()
	s.grpc = nil
	return err
}

func (s *Server) closeListeners() {
	s.web.Close()
	s.closeGRPC() //nolint:errcheck // Nothing was accepted on it.
}
