package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A balancer passes each connection on to the next of several addresses that takes it, as HAProxy and others do.
type balancer struct {
	listener net.Listener
	behind   []string
	next     atomic.Int64
	carrying sync.WaitGroup
}

func startBalancer(behind []string) (*balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binds loopback and returns at once
	if err != nil {
		return nil, fmt.Errorf("starting the balancer: %w", err)
	}
	b := &balancer{listener: l, behind: behind}
	b.carrying.Go(b.accept)
	return b, nil
}

func (b *balancer) address() string { return b.listener.Addr().String() }

// close takes no more connections. Those that are open end with what they are to.
func (b *balancer) close() {
	if b == nil {
		return
	}
	b.listener.Close()
}

func (b *balancer) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.carrying.Go(func() { b.carry(conn) })
	}
}

func (b *balancer) carry(near net.Conn) {
	defer near.Close()
	for range b.behind {
		to := b.behind[int(b.next.Add(1))%len(b.behind)]
		far, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", to) // bounded by its own timeout
		if err != nil {
			continue
		}
		defer far.Close()
		go func() {
			io.Copy(far, near) //nolint:errcheck // It ends when either side does.
			far.Close()
		}()
		io.Copy(near, far) //nolint:errcheck // As above.
		return
	}
}
