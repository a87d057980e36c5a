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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/mdlayher/vsock"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sync/errgroup"

	"pushrelay/internal/loglimit"
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

// Config is what a [Server] works with.
type Config struct {
	// Flags say where to listen and which web configuration file there is. Required.
	Flags *web.FlagConfig
	// Optional are those of the addresses that are left out where the machine has no such address, as one without IPv6.
	Optional []string
	// PlainSockets takes the mode of a Unix socket for its password: those that this server makes at a path are served without
	// the TLS and the passwords of the web configuration file.
	PlainSockets bool
	// Kept has the listeners for longer than the server lives; nil for nobody.
	Kept *Kept
	// Logger is required.
	Logger *slog.Logger
}

// Server serves HTTP on the listeners of its flags.
type Server struct {
	cfg       Config
	listeners []listener
	servers   []*http.Server  // since Run
	accepting []*connListener // since Run
	newcomers newcomers
	reserve   *reserve
	discards  chan struct{} // slots, see discardsAtOnce
	users     users

	// ending ends shortly before what is still in flight is cut off; of Run.
	ending context.Context
	end    context.CancelFunc
}

// listener is one of them, and whether it is served without TLS and passwords.
type listener struct {
	net.Listener
	plain bool
}

// Listen binds the addresses of the flags and checks the web configuration file. On error nothing stays bound.
func Listen(cfg Config) (*Server, error) {
	if _, err := checkConfig(*cfg.Flags.WebConfigFile); err != nil {
		return nil, fmt.Errorf("web configuration %s: %w", *cfg.Flags.WebConfigFile, err)
	}
	s := newServer(cfg)
	if err := s.listen(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newServer(cfg Config) *Server {
	return &Server{cfg: cfg, reserve: newReserve(cfg.Logger), discards: make(chan struct{}, discardsAtOnce)}
}

func (s *Server) listen() error {
	if flag := s.cfg.Flags.WebSystemdSocket; flag != nil && *flag {
		// Their mode is the unit's business, and 0666 unless it says otherwise.
		sockets, err := s.cfg.Kept.fromSystemd()
		for _, l := range sockets {
			s.listeners = append(s.listeners, listener{Listener: l})
		}
		return err
	}
	for _, address := range *s.cfg.Flags.WebListenAddresses {
		l, err := s.cfg.Kept.Listen(address, func() (net.Listener, error) { return listen(address) })
		if slices.Contains(s.cfg.Optional, address) && isMissingAddress(err) {
			s.cfg.Logger.Info("not listening on an address that this machine does not have", slog.String("addr", address), slog.Any("err", err))
			continue
		}
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, listener{Listener: l, plain: s.cfg.PlainSockets && hasMode(address)})
	}
	return nil
}

// isMissingAddress says that the machine has no such address, or no addresses of that kind at all.
func isMissingAddress(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
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
		l, err = listenUnix(strings.TrimPrefix(address, UnixPrefix), socketMode)
	case strings.HasPrefix(address, vsockPrefix):
		l, err = listenVsock(strings.TrimPrefix(address, vsockPrefix))
	default:
		l, err = listenOn("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: another program has that port (a relay, an agent and a Pushgateway all take 9091 unless they are told otherwise): choose another one, such as --web.listen-address=%s", err, nextPort(address))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("--web.listen-address %s: %w", address, err)
	}
	return l, nil
}

// nextPort is an address with another port, for an example.
func nextPort(address string) string {
	host, text, err := net.SplitHostPort(address)
	port, err2 := strconv.ParseUint(text, 10, 16)
	if err != nil || err2 != nil || host == "::1" { // the second of two defaults
		return "127.0.0.1:9092"
	}
	return net.JoinHostPort(host, strconv.FormatUint(port%65535+1, 10))
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

// Addr returns the address of the first listener, for ":0".
func (s *Server) Addr() net.Addr { return s.listeners[0].Addr() }

// Close releases the listeners of a server that was never run.
func (s *Server) Close() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// Guard returns a listener for connections that are not HTTP's, which keeps the file descriptors in reserve that HTTP keeps:
// when they are short, connections of HTTP are closed first, and then those that come.
func (s *Server) Guard(l net.Listener) net.Listener { return s.reserve.guard(l, otherShare) }

// Run serves the handler until ctx ends, then lets requests in flight finish, at most for the given time, and cuts off
// what is left. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context, handler http.Handler, grace time.Duration) error {
	s.ending, s.end = context.WithCancel(context.WithoutCancel(ctx)) // by shutdown, or below
	defer s.end()
	serving, ended := errgroup.WithContext(ctx)
	passwords := newPasswords()
	toolkit := slog.New(loglimit.New().Handler(&discreet{s.cfg.Logger.Handler()})) // it logs a broken configuration at every request
	for _, l := range s.listeners {
		server := s.newHTTP(handler) // each has its own: what serves with the web configuration changes it
		s.servers = append(s.servers, server)
		conns := newConnListener(s.reserve.guard(l.Listener, httpShare), s)
		s.accepting = append(s.accepting, conns)
		serving.Go(func() error {
			defer conns.end()
			if !l.plain {
				server.Handler = passwords.behind(server.Handler)
				return web.Serve(&frontListener{Listener: conns, server: server, passwords: passwords}, server, s.cfg.Flags, toolkit)
			}
			s.cfg.Logger.Info("listening without TLS and passwords: the mode of the socket says who may connect", slog.String("addr", l.Addr().String()))
			server.Handler = endChunked(server.Handler)
			return server.Serve(conns)
		})
	}
	var stopping sync.WaitGroup
	stopping.Go(func() {
		<-ended.Done()
		s.shutdown(grace)
	})
	err := serving.Wait()
	stopping.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving HTTP: %w", err)
}

func (s *Server) newHTTP(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           settleFirst(countResets(tellCuts(boundBodies(refuseOtherSchemes(handler))))),
		ConnContext:       withConn,
		ConnState:         observeState,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(&discreet{s.cfg.Logger.Handler()}, slog.LevelDebug),
	}
}

func (s *Server) shutdown(grace time.Duration) {
	s.stopAccepting()
	ctx, cancel := context.WithTimeout(context.Background(), grace) // the caller's context has ended; this one ends here
	defer cancel()
	// What waits is told before it is cut off: it can still answer.
	telling := time.AfterFunc(grace/2, s.end)
	defer telling.Stop()
	var stopping sync.WaitGroup
	for _, server := range s.servers {
		stopping.Go(func() {
			if err := server.Shutdown(ctx); err != nil {
				s.cfg.Logger.Warn("HTTP requests were cut off", slog.Any("err", err))
				server.Close() //nolint:errcheck // Whatever is left ends with the process.
			}
		})
	}
	stopping.Wait()
}
