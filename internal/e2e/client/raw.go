package client

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// Raw sends bytes over a connection, closes its sending half and returns all that comes back.
func Raw(t testing.TB, url, bytes string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, bytes)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}
