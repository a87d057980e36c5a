package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"pushrelay/internal/mtls"
	"pushrelay/internal/tunnel"
)

// A bare pipe is the least that a tunnel over mutual TLS can be, and what the tunnel is measured beside: two processes through
// which a connection to the target passes. They read and write as much at once as relay and agent do, with the same TLS, and do
// nothing but copy: no HTTP, no gRPC, no sessions.
//
// The inner end is where the agent would be. It has always dialed one connection more than is in use.

// pipeCommand, as the first argument, makes this program an end of a bare pipe.
const pipeCommand = "pipe"

// barePipe starts both ends between the target and whoever scrapes, with the certificates of the site.
func (l *lab) barePipe(ctx context.Context, s *site, direct route) (route, error) {
	self, err := os.Executable()
	if err != nil {
		return route{}, fmt.Errorf("starting a bare pipe: %w", err)
	}
	between, err := freeAddress()
	if err != nil {
		return route{}, err
	}
	front, err := freeAddress()
	if err != nil {
		return route{}, err
	}
	authority := filepath.Join(s.dataDir, "authority")
	for _, args := range [][]string{
		{"outer", between, front, filepath.Join(authority, "relay"), filepath.Join(authority, "ca.crt")},
		{"inner", between, direct.address, filepath.Join(s.certificates, "agent"), filepath.Join(s.certificates, "ca.crt")},
	} {
		p, err := startProgram(l.dir, "bare-pipe-"+args[0], front, self, append([]string{pipeCommand}, args...)...)
		if err != nil {
			return route{}, err
		}
		l.started = append(l.started, p)
	}
	r := route{name: "bare pipe", address: front, paths: direct.paths}
	return r, l.started[len(l.started)-1].until(ctx, func(ctx context.Context) error {
		_, err := times(ctx, r.open, thousandPath, 1)
		return err
	})
}

// servePipe is one end until ctx ends. The arguments are which one, where the two meet, where the outer one listens or what the
// inner one dials, the certificate and key without .crt and .key, and the authority's certificate.
func servePipe(ctx context.Context, args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("serving a bare pipe: %d arguments, want 5", len(args))
	}
	role, serve := mtls.Agent, serveInner
	if args[0] == "outer" {
		role, serve = mtls.Relay, serveOuter
	}
	certificates, err := mtls.NewReloader(mtls.Config{Role: role, Files: mtls.Files{CertFile: args[3] + ".crt", KeyFile: args[3] + ".key", CAFile: args[4]}})
	if err != nil {
		return fmt.Errorf("serving a bare pipe: %w", err)
	}
	if err := serve(ctx, args[1], args[2], certificates); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving a bare pipe: %w", err)
	}
	return nil
}

// serveOuter joins each connection to the front with one that the inner end has dialed.
func serveOuter(ctx context.Context, between, front string, certificates *mtls.Reloader) error {
	cfg := mtls.RelayTLSConfig(certificates)
	var listen net.ListenConfig
	inner, err := listen.Listen(ctx, "tcp", between)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { inner.Close() })()
	scrapers, err := listen.Listen(ctx, "tcp", front)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { scrapers.Close() })()
	var joined sync.WaitGroup
	defer joined.Wait()
	for {
		scraper, err := scrapers.Accept()
		if err != nil {
			return err
		}
		raw, err := inner.Accept()
		if err != nil {
			scraper.Close()
			return err
		}
		joined.Go(func() {
			within := tls.Server(tunnel.NewBurstReader(raw), cfg)
			join(ctx, scraper, within, func() { passOn(within, scraper) }, func() { copyChunks(scraper, within) })
		})
	}
}

// serveInner dials the outer end, and the target once a scraper uses the connection.
func serveInner(ctx context.Context, between, target string, certificates *mtls.Reloader) error {
	cfg := mtls.AgentTLSConfig(certificates, "localhost")
	var joined sync.WaitGroup
	defer joined.Wait()
	var dialer net.Dialer
	for ctx.Err() == nil {
		raw, err := dialer.DialContext(ctx, "tcp", between)
		if err != nil { // the outer end does not listen yet
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		below := tunnel.NewBurstWriter(raw)
		secure := tls.Client(below, cfg)
		within := below.Over(secure)
		request := make([]byte, tunnel.BurstBytes)
		stop := context.AfterFunc(ctx, func() { raw.Close() })
		n, err := within.Read(request) // begins with the handshake, which the outer end puts off until then
		stop()
		if err != nil {
			within.Close()
			continue
		}
		conn, err := dialer.DialContext(ctx, "tcp", target)
		if err != nil {
			within.Close()
			return err
		}
		joined.Go(func() {
			join(ctx, conn, within, func() {
				if _, err := conn.Write(request[:n]); err == nil {
					passOn(conn, within)
				}
			}, func() { sendChunks(within, conn) })
		})
	}
	return nil
}

// join runs both directions until one ends or ctx does, and closes the connections.
func join(ctx context.Context, a, b net.Conn, directions ...func()) {
	hangUp := func() { a.Close(); b.Close() }
	defer context.AfterFunc(ctx, hangUp)()
	var running sync.WaitGroup
	for _, direction := range directions {
		running.Go(func() {
			defer hangUp()
			direction()
		})
	}
	running.Wait()
}

// passOn copies until one of the two ends, which is no fault.
func passOn(to io.Writer, from io.Reader) { io.Copy(to, from) } //nolint:errcheck // see above

// sendChunks sends what comes in chunks, each after its length, as gRPC sends messages.
func sendChunks(to io.Writer, from io.Reader) {
	buffer := make([]byte, 4+tunnel.BodyChunkBytes)
	for {
		n, err := from.Read(buffer[4:])
		binary.BigEndian.PutUint32(buffer, uint32(n))
		if _, writeErr := to.Write(buffer[:4+n]); errors.Join(err, writeErr) != nil {
			return
		}
	}
}

// copyChunks takes such chunks, and passes each on once it is whole.
func copyChunks(to io.Writer, from io.Reader) {
	buffer := make([]byte, tunnel.BodyChunkBytes)
	for {
		var length [4]byte
		if _, err := io.ReadFull(from, length[:]); err != nil {
			return
		}
		chunk := buffer[:min(binary.BigEndian.Uint32(length[:]), tunnel.BodyChunkBytes)]
		if _, err := io.ReadFull(from, chunk); err != nil {
			return
		}
		if _, err := to.Write(chunk); err != nil {
			return
		}
	}
}
