package httpserver_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestNewcomers: who has connected when the server is to end, and asks then, is answered. Who connects and says nothing does not keep it.
func TestNewcomers(t *testing.T) {
	for name, dial := range map[string]bool{"tcp": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			f := flags("127.0.0.1:0")
			if dial {
				*f.WebConfigFile = webConfig(t)
			}
			s, stop := serveFlags(t, f, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "an answer") })
			silent, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			c := clientTLS(dial)(t, s.Addr().String())
			time.Sleep(50 * time.Millisecond) // until both are accepted
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				stop()
			}()
			time.Sleep(50 * time.Millisecond) // until it is to end
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasSuffix(string(got), "an answer") {
				t.Errorf("who had connected gets %q, %v", got, err)
			}
			select {
			case <-ended:
			case <-time.After(3 * time.Second):
				t.Error("who says nothing keeps it")
				<-ended
			}
			if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
				c.Close()
				t.Error("it still accepts")
			}
		})
	}
}
