package push_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
)

// TestSlowSenders: bodies that trickle hold the memory only while nobody waits for it; whoever sends them is told so.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	p := &pusher{result: change.Outcome{Kind: change.Applied}}
	server := httptest.NewServer(newHandler(p, exposition.Limits{MaxInflightBytes: 1 << 20}))
	defer server.Close()
	const slow = 16
	answers := make(chan string, slow)
	for range slow {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /metrics/job/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", strings.Repeat("m 1\n", 15_000))
		go func() {
			for range time.Tick(100 * time.Millisecond) {
				if _, err := conn.Write([]byte("#")); err != nil {
					return
				}
			}
		}()
		go func() {
			status, _ := bufio.NewReader(conn).ReadString('\n')
			answers <- status
		}()
	}
	time.Sleep(5500 * time.Millisecond) // real sockets, and longer than a body may stand still if somebody waits
	resp, err := server.Client().Post(server.URL+"/metrics/job/honest", "text/plain", strings.NewReader(strings.Repeat("m 1\n", 30_000)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("an honest push is answered %d", resp.StatusCode)
	}
	if status := <-answers; !strings.Contains(status, " 408 ") {
		t.Errorf("a body that trickles is answered %q", status)
	}
}
