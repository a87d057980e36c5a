package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// A wire is one keep-alive HTTP connection, used by one goroutine. Load is made with it because it costs the machine, which
// the programs under test have to share with it, less than an http.Client would.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
	stop   func() bool
}

// wireBytes is how much is read at once.
const wireBytes = 256 << 10

// dialWire connects. The wire breaks when ctx ends.
func dialWire(ctx context.Context, address string) (*wire, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	w := &wire{conn: conn, reader: bufio.NewReaderSize(conn, 4<<10), buffer: make([]byte, wireBytes)}
	w.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a closed one needs none
	return w, nil
}

func (w *wire) close() {
	w.stop()
	w.conn.Close()
}

// An answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	bytes  int64 // of the body
}

// exchange sends a request and reads the answer to its end. The sink takes the body; nil drops it.
func (w *wire) exchange(request []byte, sink io.Writer) (answer, error) {
	if _, err := w.conn.Write(request); err != nil {
		return answer{}, fmt.Errorf("sending a request: %w", err)
	}
	resp, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		return answer{}, fmt.Errorf("reading an answer: %w", err)
	}
	defer resp.Body.Close()
	if sink == nil {
		sink = nowhere{}
	}
	n, err := io.CopyBuffer(sink, resp.Body, w.buffer)
	if err != nil {
		return answer{}, fmt.Errorf("reading an answer after %d bytes: %w", n, err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, bytes: n}, nil
}

// nowhere drops what is written. Unlike io.Discard it leaves the size of the reads to the copy.
type nowhere struct{}

// Write takes all of it.
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// get returns the body of a page; every status but 200 is an error.
func get(ctx context.Context, address, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	w, err := dialWire(ctx, address)
	if err != nil {
		return nil, err
	}
	defer w.close()
	var body bytes.Buffer
	a, err := w.exchange(getRequest(address, path, nil), &body)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", path, err)
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("getting %s: status %d: %s", path, a.status, bytes.TrimSpace(body.Bytes()))
	}
	return body.Bytes(), nil
}

// getRequest returns a GET as it goes over the wire.
func getRequest(address, path string, header map[string]string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, address)
	for name, value := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// appendPut appends a PUT as it goes over the wire.
func appendPut(dst []byte, address, path, contentType string, body []byte) []byte {
	dst = fmt.Appendf(dst, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", path, address, contentType, len(body))
	return append(dst, body...)
}
