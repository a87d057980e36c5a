package tunnel

import (
	"net"
	"sync"
	"sync/atomic"
)

// BurstWriter is the agent's connection below TLS. TLS makes records of 16 KiB and writes each by itself: a call into the
// kernel, and a relay that is woken up, for every one of them. The BurstWriter makes one write of all the records of a
// write to TLS. See [BurstWriter.Over].
type BurstWriter struct {
	net.Conn

	// mu also covers writing to the connection: records must keep their order, and TLS may write one of its own, an alert,
	// beside those of a burst.
	mu   sync.Mutex
	held *[]byte // guarded by mu; the records of a burst, nil outside of one
}

// NewBurstWriter returns a connection over which TLS can be put.
func NewBurstWriter(c net.Conn) *BurstWriter { return &BurstWriter{Conn: c} }

// Over returns the connection to write to, given that of TLS over w. It has one writer at a time, as gRPC is.
func (w *BurstWriter) Over(tls net.Conn) net.Conn { return &burstConn{Conn: tls, below: w} }

// Write writes a record, or holds it back in a burst.
func (w *BurstWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		return w.Conn.Write(p)
	}
	*w.held = append(*w.held, p...)
	return len(p), nil
}

// heldBuffers are those of bursts: an agent that is not scraped gives them up.
var heldBuffers = sync.Pool{New: func() any { return new([]byte) }}

// A record of TLS 1.3 has at most recordBytes of what is written, and recordOverhead around them.
const (
	recordBytes    = 16 << 10
	recordOverhead = 5 + 1 + 16 // head, type and tag
)

// heldBuffer returns a buffer with room for the records of so many bytes from the beginning: one that grew record by record would
// touch several times as much memory, which the machine has to find for the first scrape of a session.
func heldBuffer(bytes int) *[]byte {
	b := heldBuffers.Get().(*[]byte)
	if room := bytes + (bytes/recordBytes+1)*recordOverhead; cap(*b) < room {
		*b = make([]byte, 0, room)
	}
	return b
}

// begin begins the burst of a write of that many bytes.
func (w *BurstWriter) begin(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = heldBuffer(bytes)
}

func (w *BurstWriter) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	records := w.held
	w.held = nil
	_, err := w.Conn.Write(*records)
	*records = (*records)[:0]
	heldBuffers.Put(records)
	return err
}

// burstConn is the connection over TLS.
type burstConn struct {
	net.Conn

	below  *BurstWriter
	during atomic.Bool // a Write is in progress
}

// Close closes the connection. As with TLS alone, a write in progress ends at once: TLS would say goodbye first, and that
// waits behind a burst that a dead relay does not take.
func (c *burstConn) Close() error {
	if c.during.Load() {
		c.below.Close()
	}
	return c.Conn.Close()
}

// Write writes all of p as one burst.
func (c *burstConn) Write(p []byte) (int, error) {
	c.during.Store(true)
	defer c.during.Store(false)
	c.below.begin(len(p))
	n, err := c.Conn.Write(p)
	if endErr := c.below.end(); err == nil {
		err = endErr
	}
	return n, err
}

// BurstReader is the relay's connection below TLS. TLS reads hardly more than one record at once; when there is more, the
// BurstReader reads all of it and hands it out in pieces. It has a buffer only then, and never while it waits for the next
// scrape: of ten thousand agents nearly all are idle. It has one reader, as TLS is.
type BurstReader struct {
	net.Conn

	more   bool    // the last read filled all of a large room, so that more is there
	buffer *[]byte // nil if nothing is unread
	unread []byte  // of buffer
}

// burstRoom is the least room that TLS has while a body comes. In a handshake it has less, and fills it without any more to
// come: the read after that would hold a buffer for as long as the agent is idle.
const burstRoom = 8 << 10

// NewBurstReader returns a connection over which TLS can be put.
func NewBurstReader(c net.Conn) *BurstReader { return &BurstReader{Conn: c} }

// readBuffers are those of what was read at once.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, BurstBytes); return &b }}

// Read reads what is unread, or from the connection.
func (r *BurstReader) Read(p []byte) (int, error) {
	if r.buffer != nil {
		return r.take(p), nil
	}
	if !r.more {
		n, err := r.Conn.Read(p)
		r.more = n == len(p) && n >= burstRoom
		return n, err
	}
	r.more = false // the read after this one may be a long wait
	buffer := readBuffers.Get().(*[]byte)
	n, err := r.Conn.Read(*buffer)
	if n == 0 {
		readBuffers.Put(buffer)
		return 0, err
	}
	r.buffer, r.unread = buffer, (*buffer)[:n]
	return r.take(p), nil // an error that came along comes again
}

// take hands out some of what is unread. After the last of it the buffer goes back.
func (r *BurstReader) take(p []byte) int {
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	if len(r.unread) == 0 {
		readBuffers.Put(r.buffer)
		r.buffer, r.unread = nil, nil
	}
	return n
}
