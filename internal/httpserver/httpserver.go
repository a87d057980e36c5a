// Package httpserver is the HTTP listener of both programs: addresses, timeouts, TLS and authentication by a web
// configuration file, and an orderly end. What is served is the handler's business.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/mdlayher/vsock"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/yamldoc"
)

// Timeouts of every connection. Bodies and answers have no fixed time: their handlers move the deadline on as long as
// something moves.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// writeTimeout ends answers whose handler moves no deadline; it also replaces what an earlier handler of the same
	// connection left behind.
	writeTimeout   = 5 * time.Minute
	maxHeaderBytes = 64 << 10
)

// UnixPrefix begins the address of a Unix socket, for those who dial one as well.
const UnixPrefix = "unix:"

// vsockPrefix begins the address of a VM socket.
const vsockPrefix = "vsock://"

// Server serves HTTP on the listeners of its flags.
type Server struct {
	flags     *web.FlagConfig
	logger    *slog.Logger
	http      []*http.Server // one for each listener
	listeners []net.Listener
	discards  chan struct{} // slots, see discardsAtOnce

	// ending ends shortly before what is still in flight is cut off; of Run.
	ending context.Context
	end    context.CancelFunc
}

// Listen binds the addresses of the flags and checks the web configuration file. On error nothing stays bound.
func Listen(flags *web.FlagConfig, logger *slog.Logger) (*Server, error) {
	if err := checkConfig(*flags.WebConfigFile); err != nil {
		return nil, fmt.Errorf("web configuration %s: %w", *flags.WebConfigFile, err)
	}
	s := &Server{flags: flags, logger: logger, discards: make(chan struct{}, discardsAtOnce)}
	var err error
	if flags.WebSystemdSocket != nil && *flags.WebSystemdSocket {
		s.listeners, err = systemdListeners()
	} else {
		for _, address := range *flags.WebListenAddresses {
			var l net.Listener
			if l, err = listen(address); err != nil {
				break
			}
			s.listeners = append(s.listeners, l)
		}
	}
	if err != nil {
		s.closeListeners()
		return nil, err
	}
	return s, nil
}

// checkConfig checks a web configuration file, also behind the end at which web.Validate stops: passwords that stand there
// would protect nothing.
func checkConfig(file string) error {
	if err := web.Validate(file); err != nil || file == "" {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, err = yamldoc.Parse(text)
	return err
}

func systemdListeners() ([]net.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking sockets from systemd: %w", err)
	}
	if len(listeners) == 0 {
		return nil, errors.New("taking sockets from systemd: there are none (--web.systemd-socket needs a .socket unit)")
	}
	return listeners, nil
}

func listen(address string) (net.Listener, error) {
	var l net.Listener
	var err error
	switch {
	case strings.HasPrefix(address, UnixPrefix):
		l, err = listenUnix(strings.TrimPrefix(address, UnixPrefix))
	case strings.HasPrefix(address, vsockPrefix):
		l, err = listenVsock(strings.TrimPrefix(address, vsockPrefix))
	default:
		l, err = listenOn("tcp", address)
	}
	if err != nil {
		return nil, fmt.Errorf("--web.listen-address %s: %w", address, err)
	}
	return l, nil
}

// listenOn needs no context: binding a socket does not wait.
func listenOn(network, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), network, address)
}

func listenVsock(address string) (net.Listener, error) {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, err
	}
	return vsock.Listen(uint32(port), nil)
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// Addr returns the address of the first listener, for ":0".
func (s *Server) Addr() net.Addr { return s.listeners[0].Addr() }

// Close releases the listeners of a server that was never run.
func (s *Server) Close() { s.closeListeners() }

// Run serves the handler until ctx ends, then lets requests in flight finish, at most for the given time, and cuts off
// what is left. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context, handler http.Handler, grace time.Duration) error {
	s.ending, s.end = context.WithCancel(context.WithoutCancel(ctx)) // by shutdown, or below
	defer s.end()
	var serving errgroup.Group
	for range s.listeners {
		s.http = append(s.http, &http.Server{
			Handler:           tellCuts(boundBodies(handler)),
			ConnContext:       withConn,
			ConnState:         observeState,
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			WriteTimeout:      writeTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
		})
	}
	var stopping sync.WaitGroup
	served := make(chan struct{})
	stopping.Go(func() {
		select {
		case <-ctx.Done():
			s.shutdown(grace)
		case <-served:
		}
	})
	for i, server := range s.http {
		serving.Go(func() error {
			accepting := &listener{Listener: s.listeners[i], server: s}
			return web.Serve(&frontListener{Listener: accepting, server: server}, server, s.flags, s.logger)
		})
	}
	err := serving.Wait()
	close(served)
	stopping.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving HTTP: %w", err)
}

func (s *Server) shutdown(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace) // the caller's context has ended; this one ends here
	defer cancel()
	// What waits is told before it is cut off: it can still answer.
	telling := time.AfterFunc(grace/2, s.end)
	defer telling.Stop()
	var stopping errgroup.Group
	for _, server := range s.http {
		stopping.Go(func() error {
			err := server.Shutdown(ctx)
			if err != nil {
				server.Close() //nolint:errcheck // Whatever is left ends with the process.
			}
			return err
		})
	}
	if err := stopping.Wait(); err != nil {
		s.logger.Warn("HTTP requests were cut off", slog.Any("err", err))
	}
}
