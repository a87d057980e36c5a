package faultproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"pushrelay/internal/faultproxy"
)

// patience bounds what must happen; a busy machine takes its time.
const patience = 20 * time.Second

// quiet is how long nothing has to come until it counts as frozen.
const quiet = 200 * time.Millisecond

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a proxy in front of a listener of the test.
type network struct {
	*faultproxy.Proxy
	t        *testing.T
	listener net.Listener
}

func newNetwork(t *testing.T, seed uint64) *network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p, err := faultproxy.Listen(faultproxy.Config{Address: listener.Addr().String(), Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return &network{p, t, listener}
}

// connect returns both ends of a connection through the proxy.
func (n *network) connect() (near, far *net.TCPConn) {
	n.t.Helper()
	c, err := net.Dial("tcp", n.Addr())
	if err != nil {
		n.t.Fatal(err)
	}
	f, err := n.listener.Accept()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, end := range []net.Conn{c, f} {
		n.t.Cleanup(func() { end.Close() })
		if err := end.SetDeadline(time.Now().Add(patience)); err != nil {
			n.t.Fatal(err)
		}
	}
	return c.(*net.TCPConn), f.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("writing %q: %v", text, err)
	}
}

func wantText(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func wantNothing(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); n != 0 || !ok || !timeout.Timeout() {
		t.Fatalf("read %d bytes, %v, want nothing to come", n, err)
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func wantEnd(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, want) {
		t.Fatalf("read ended with %v, want %v", err, want)
	}
}

func TestCarriesBothWaysAndEnds(t *testing.T) {
	n := newNetwork(t, 1)
	near, far := n.connect()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB: more than all buffers on the way
	var sending sync.WaitGroup
	sending.Go(func() {
		near.Write(want)
		near.CloseWrite()
	})
	got, err := io.ReadAll(far)
	sending.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, %v, want the %d that were sent", len(got), err, len(want))
	}
	send(t, far, "after the other side's end")
	far.Close()
	wantText(t, near, "after the other side's end")
	wantEnd(t, near, io.EOF)
	if n.Accepted() != 1 {
		t.Errorf("Accepted() = %d, want 1", n.Accepted())
	}
}

func TestFreeze(t *testing.T) {
	for _, tt := range []struct {
		name     string
		freeze   faultproxy.Direction
		up, down bool // what is still carried
	}{
		{"up", faultproxy.Up, false, true},
		{"down", faultproxy.Down, true, false},
		{"both", faultproxy.Both, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, 1)
			near, far := n.connect()
			n.Set(faultproxy.Conditions{Freeze: tt.freeze})
			send(t, near, "up")
			send(t, far, "down")
			near.CloseWrite() // an end is something that was sent, too
			for _, way := range []struct {
				open bool
				at   net.Conn
				want string
			}{{tt.up, far, "up"}, {tt.down, near, "down"}} {
				if way.open {
					wantText(t, way.at, way.want)
				} else {
					wantNothing(t, way.at)
				}
			}
			n.Set(faultproxy.Conditions{})
			if !tt.up {
				wantText(t, far, "up")
			}
			if !tt.down {
				wantText(t, near, "down")
			}
			wantEnd(t, far, io.EOF)
		})
	}
}

func TestFrozenResetArrivesLater(t *testing.T) {
	n := newNetwork(t, 1)
	near, far := n.connect()
	n.Set(faultproxy.Conditions{Freeze: faultproxy.Up})
	near.SetLinger(0)
	near.Close()
	wantNothing(t, far)
	n.Set(faultproxy.Conditions{})
	wantEnd(t, far, syscall.ECONNRESET)
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  faultproxy.Ending
		want error
	}{{"reset", faultproxy.Reset, syscall.ECONNRESET}, {"finish", faultproxy.Finish, io.EOF}} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, 1)
			n.Set(faultproxy.Conditions{Freeze: faultproxy.Both}) // a cut needs no working network
			near, far := n.connect()
			if got := n.Cut(tt.how); got != 1 {
				t.Errorf("Cut() = %d, want 1", got)
			}
			wantEnd(t, near, tt.want)
			wantEnd(t, far, tt.want)
			n.Set(faultproxy.Conditions{})
			near, far = n.connect()
			send(t, near, "a new connection")
			wantText(t, far, "a new connection")
		})
	}
}

func TestLatencyDelaysWithoutHoldingBack(t *testing.T) {
	n := newNetwork(t, 1)
	near, far := n.connect()
	const latency, pieces = 100 * time.Millisecond, 20
	n.Set(faultproxy.Conditions{Latency: latency})
	startedAt := time.Now()
	for range pieces {
		send(t, near, "piece")
		<-time.After(5 * time.Millisecond) // so that the pieces are not one
	}
	wantText(t, far, strings.Repeat("piece", pieces))
	if took := time.Since(startedAt); took < latency || took > pieces*latency {
		t.Errorf("%d pieces took %v, want at least %v and not that for each", pieces, took, latency)
	}
}

func TestThrottle(t *testing.T) {
	n := newNetwork(t, 1)
	const rate, size = 1 << 20, 512 << 10
	n.Set(faultproxy.Conditions{BytesPerSecond: rate})
	// Two connections share the bottleneck.
	var transfers sync.WaitGroup
	startedAt := time.Now()
	for range 2 {
		near, far := n.connect()
		transfers.Go(func() { near.Write(make([]byte, size/2)) })
		transfers.Go(func() {
			if _, err := io.ReadFull(far, make([]byte, size/2)); err != nil {
				t.Error(err)
			}
		})
	}
	transfers.Wait()
	want := time.Duration(float64(size) / rate * float64(time.Second))
	if took := time.Since(startedAt); took < want*9/10 {
		t.Errorf("%d bytes took %v, want at least about %v", size, took, want)
	}
}

func TestBytesToCut(t *testing.T) {
	n := newNetwork(t, 1)
	n.Set(faultproxy.Conditions{BytesToCut: 10})
	near, far := n.connect()
	send(t, near, "1234")
	wantText(t, far, "1234")
	send(t, far, "567890more")
	if got, err := io.ReadAll(near); string(got) != "567890" && string(got) != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q, %v, want at most the bytes up to the cut and a reset", got, err)
	}
}

// roundTrips counts the exchanges of 101 bytes until the connection is cut.
func (n *network) roundTrips() int {
	near, far := n.connect()
	for trips := 0; ; trips++ {
		near.Write(make([]byte, 100))
		if _, err := io.ReadFull(far, make([]byte, 100)); err != nil {
			return trips
		}
		far.Write(make([]byte, 1))
		if _, err := near.Read(make([]byte, 1)); err != nil {
			return trips
		}
	}
}

func TestRandomCutsFollowTheSeed(t *testing.T) {
	cuts := func(seed uint64) (trips []int) {
		n := newNetwork(t, seed)
		n.Set(faultproxy.Conditions{MeanBytesToCut: 10_000})
		for range 20 {
			trips = append(trips, n.roundTrips())
		}
		return trips
	}
	first, second, other := cuts(7), cuts(7), cuts(8)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("one seed gave two sequences (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, other) {
		t.Errorf("two seeds gave one sequence: %v", first)
	}
	if slices.Max(first) < 2*slices.Min(first) {
		t.Errorf("the cuts are not random: after %v round trips", first)
	}
}

func (n *network) wantRefused() {
	n.t.Helper()
	near, err := net.Dial("tcp", n.Addr())
	if err == nil { // the reset may come while it is still dialling
		defer near.Close()
		_, err = near.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		n.t.Errorf("dialling ended with %v, want %v", err, syscall.ECONNRESET)
	}
}

func TestRefuse(t *testing.T) {
	n := newNetwork(t, 1)
	near, far := n.connect()
	n.Set(faultproxy.Conditions{Refuse: true})
	n.wantRefused()
	send(t, near, "open ones go on")
	wantText(t, far, "open ones go on")
	n.Set(faultproxy.Conditions{})
	n.connect()
}

func TestNobodyBehind(t *testing.T) {
	n := newNetwork(t, 1)
	n.listener.Close()
	n.wantRefused()
}

// TestCloseLeavesNothing: whatever is blocked, in whatever state, Close returns, and TestMain finds nothing left.
func TestCloseLeavesNothing(t *testing.T) {
	n := newNetwork(t, 1)
	for _, c := range []faultproxy.Conditions{
		{}, {Freeze: faultproxy.Both}, {Latency: time.Hour}, {BytesPerSecond: 1},
	} {
		near, _ := n.connect()
		n.Set(c)
		near.SetWriteDeadline(time.Now().Add(quiet))
		near.Write(make([]byte, 16<<20)) // nobody reads: all buffers are full
	}
	n.Close()
	if n.Open() != 0 {
		t.Errorf("%d connections are open after Close", n.Open())
	}
}
