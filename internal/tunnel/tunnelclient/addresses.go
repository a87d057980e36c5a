package tunnelclient

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"pushrelay/internal/tunnel"
)

const (
	// shortestDial is what each of several addresses gets at least.
	shortestDial = 2 * time.Second
	// dialTimeout lets net.Dialer share the time out between the addresses of a name. It is longer than an attempt, so that one
	// address alone has all of it.
	dialTimeout = tunnel.AttemptSilence + shortestDial
)

// addresses are those of the name that a link dials, the relay's or its proxy's. A name is dialled as net.Dialer does it, which
// goes on to the next address if one takes no connection. One that takes it and is silent, or closes it, would be dialled again
// and again: after that the next attempt begins with the address after it. One that a session came of is begun with as long as
// it does.
//
// It is owned by the goroutine of [Link.Run].
type addresses struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	resolve func(ctx context.Context, host string) ([]netip.Addr, error) // nil: names are left to dial

	last   netip.Addr // of the last connection; invalid before the first
	failed bool       // no session came of it
}

// systemResolve asks the system's resolver.
func systemResolve(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// dialNext opens a connection to host:port.
func (d *addresses) dialNext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dialInOrder(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		d.last = remote.AddrPort().Addr().Unmap().WithZone("")
	}
	return conn, nil
}

func (d *addresses) dialInOrder(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return d.dial(ctx, network, address)
	}
	order := d.order(ctx, host)
	if len(order) == 0 {
		return d.dial(ctx, network, address)
	}
	var first error
	until := time.Now().Add(tunnel.AttemptSilence)
	for i, ip := range order {
		share := max(time.Until(until)/time.Duration(len(order)-i), shortestDial)
		one, cancel := context.WithTimeout(ctx, share)
		conn, err := d.dial(one, network, net.JoinHostPort(ip.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// order returns the addresses of the host in the order in which they are to be dialled; none if the host is to be dialled by its
// name.
func (d *addresses) order(ctx context.Context, host string) []netip.Addr {
	if _, err := netip.ParseAddr(host); err == nil || d.resolve == nil || !d.last.IsValid() {
		return nil
	}
	found, err := d.resolve(ctx, host)
	if err != nil {
		return nil // to dial the name says what is wrong with it
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	i := slices.IndexFunc(found, func(ip netip.Addr) bool { return ip.WithZone("") == d.last })
	switch {
	case i < 0, i == 0 && !d.failed, len(found) == 1:
		return nil
	case d.failed:
		i = (i + 1) % len(found)
	}
	return slices.Concat(found[i:], found[:i])
}
