package tunnel_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"

	"pushrelay/internal/tunnel"
)

// recordBytes is the size of TLS's records.
const recordBytes = 16 << 10

// wire is the network: it keeps each write, and the room of each read.
type wire struct {
	net.Conn
	writes   [][]byte
	writeErr error
	in       io.Reader
	rooms    []int
}

func (w *wire) Write(p []byte) (int, error) {
	if w.writeErr != nil {
		return 0, w.writeErr
	}
	w.writes = append(w.writes, bytes.Clone(p))
	return len(p), nil
}

func (w *wire) Read(p []byte) (int, error) {
	w.rooms = append(w.rooms, len(p))
	return w.in.Read(p)
}

// records writes as TLS does: record by record.
type records struct{ net.Conn }

func (r records) Write(p []byte) (int, error) {
	for piece := range slices.Chunk(p, recordBytes) {
		if _, err := r.Conn.Write(piece); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close says goodbye first, as TLS does.
func (r records) Close() error {
	_, err := r.Conn.Write([]byte("goodbye"))
	return errors.Join(err, r.Conn.Close())
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// TestBurstIsOneWrite: what gRPC writes at once leaves the agent at once.
func TestBurstIsOneWrite(t *testing.T) {
	network := &wire{}
	below := tunnel.NewBurstWriter(network)
	conn := below.Over(records{below})
	sent := [][]byte{pattern(tunnel.BurstBytes), pattern(100), pattern(3 * recordBytes)}
	for _, p := range sent {
		if n, err := conn.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write of %d bytes = %d, %v", len(p), n, err)
		}
	}
	alert := []byte("alert")
	if _, err := below.Write(alert); err != nil { // TLS's own, beside any burst
		t.Fatal(err)
	}
	if want := append(sent, alert); !slices.EqualFunc(network.writes, want, bytes.Equal) {
		t.Errorf("%d writes for %d, or other bytes", len(network.writes), len(want))
	}
}

// TestBurstFails: gRPC has to know that what it wrote did not leave, or it would take the session for alive.
func TestBurstFails(t *testing.T) {
	broken := errors.New("broken")
	below := tunnel.NewBurstWriter(&wire{writeErr: broken})
	if _, err := below.Over(records{below}).Write(pattern(2 * recordBytes)); !errors.Is(err, broken) {
		t.Errorf("a burst that did not leave: %v, want %v", err, broken)
	}
}

// TestBurstEndsWithItsConnection: a relay that takes nothing any more must not hold the agent.
func TestBurstEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, relay := net.Pipe()
		defer relay.Close()
		below := tunnel.NewBurstWriter(network)
		conn := below.Over(records{below})
		written := make(chan error)
		go func() {
			_, err := conn.Write(pattern(recordBytes))
			written <- err
		}()
		synctest.Wait() // until it waits for the relay
		conn.Close()
		if err := <-written; err == nil {
			t.Error("a burst that nobody took has no error")
		}
	})
}

// TestBurstReaderReadsMuchAtOnce: a read that fills all of TLS's room is followed by one with much of it, and only by one:
// the next may wait for a day, and must hold no buffer then.
func TestBurstReaderReadsMuchAtOnce(t *testing.T) {
	sent := pattern(recordBytes + tunnel.BurstBytes + 100)
	network := &wire{in: bytes.NewReader(sent)}
	reader := tunnel.NewBurstReader(network)
	var got []byte
	room := make([]byte, recordBytes)
	for {
		n, err := reader.Read(room)
		got = append(got, room[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came of %d, or others", len(got), len(sent))
	}
	if want := []int{recordBytes, tunnel.BurstBytes, recordBytes, recordBytes}; !slices.Equal(network.rooms, want) {
		t.Errorf("reads had room for %v, want %v", network.rooms, want)
	}
}

// TestBurstReaderWaitsWithoutABuffer: the rooms of a handshake are small, and it fills them before an agent is idle.
func TestBurstReaderWaitsWithoutABuffer(t *testing.T) {
	network := &wire{in: bytes.NewReader(pattern(2000))}
	reader := tunnel.NewBurstReader(network)
	for range 4 {
		if _, err := io.ReadFull(reader, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}
	if want := []int{500, 500, 500, 500}; !slices.Equal(network.rooms, want) {
		t.Errorf("reads had room for %v, want %v", network.rooms, want)
	}
}

// TestBurstReaderKeepsTheError: what came together with the end is not lost, nor is the end.
func TestBurstReaderKeepsTheError(t *testing.T) {
	cut := errors.New("cut")
	first, last := pattern(recordBytes), []byte("last")
	reader := tunnel.NewBurstReader(&wire{in: io.MultiReader(bytes.NewReader(first), &final{last, cut})})
	got := make([]byte, 0, 3*recordBytes)
	var err error
	for err == nil {
		var n int
		n, err = reader.Read(got[len(got) : len(got)+recordBytes])
		got = got[:len(got)+n]
	}
	if !bytes.Equal(got, append(first, last...)) || !errors.Is(err, cut) {
		t.Errorf("%d bytes and %v, want %d and %v", len(got), err, len(first)+len(last), cut)
	}
}

// final returns its bytes together with the error, and the error from then on.
type final struct {
	b   []byte
	err error
}

func (f *final) Read(p []byte) (int, error) {
	n := copy(p, f.b)
	f.b = f.b[n:]
	return n, f.err
}
