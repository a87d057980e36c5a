package httpserver_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/httpserver"
)

// TestKept: while one server has ended and the next one does not serve yet, who asks waits and is answered. Once nobody keeps the listeners, their ports
// are free.
func TestKept(t *testing.T) {
	var kept httpserver.Kept
	serve := func(answer string) (address string, stop func()) {
		t.Helper()
		s, err := httpserver.Listen(httpserver.Config{Flags: flags("127.0.0.1:0"), Kept: &kept, Logger: promslog.NewNopLogger()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := s.Run(ctx, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }), time.Second); err != nil {
				t.Error(err)
			}
		})
		return s.Addr().String(), func() { cancel(); running.Wait() }
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(address string) string {
		resp, err := client.Get("http://" + address)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return string(body)
	}
	address, stop := serve("first")
	if got := ask(address); got != "first" {
		t.Errorf("the first server answers %q", got)
	}
	stop()
	answers := make(chan string)
	go func() { answers <- ask(address) }()
	same, stop := serve("second")
	if same != address {
		t.Errorf("the second server is at %s, want %s", same, address)
	}
	if got := <-answers; got != "second" {
		t.Errorf("who asked in between gets %q", got)
	}
	stop()
	kept.Close()
	if _, err := client.Get("http://" + address); err == nil {
		t.Error("the port is open though nobody keeps it")
	}
	address, stop = serve("last")
	kept.LetGo()
	stop()
	if _, err := client.Get("http://" + address); err == nil {
		t.Error("the port is open though nothing follows the last server")
	}
}

// TestKeptListenersShowTheirDescriptor: without, a server could not keep descriptors in reserve.
func TestKeptListenersShowTheirDescriptor(t *testing.T) {
	var kept httpserver.Kept
	t.Cleanup(kept.Close)
	l, err := kept.Listen("it", func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		t.Fatal(err)
	}
	visible, ok := l.(syscall.Conn)
	if !ok {
		t.Fatal("the descriptor cannot be seen")
	}
	raw, err := visible.SyscallConn()
	if err == nil {
		err = raw.Control(func(uintptr) {})
	}
	if err != nil {
		t.Error(err)
	}
}
