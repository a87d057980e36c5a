//go:build linux

package command_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

// fewFiles are the descriptors of a program that is to run out of them, manyConnections more than that.
const (
	fewFiles        = 64
	manyConnections = 150
)

const halfBody = "PUT /metrics/job/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nm 1\n"

// occupy makes connections that bring the beginning of something and nothing more. Those that are closed on the way are not
// made again.
func occupy(t *testing.T, address, beginning string) {
	t.Helper()
	for range manyConnections {
		conn, err := net.DialTimeout("tcp", address, client.Patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, beginning); err != nil {
			t.Fatal(err)
		}
	}
}

// wantServed wants every one of some requests to be answered soon, each on a connection of its own.
func wantServed(t *testing.T, url string, paths ...string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range paths {
		for range 5 {
			resp, err := client.Get(url + path)
			if err != nil {
				t.Fatalf("GET %s: %v", path, err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("GET %s = %s", path, resp.Status)
			}
		}
	}
}

// wantTold wants a bounded number of warnings that descriptors are short.
func wantTold(t *testing.T, p *program.Process) {
	t.Helper()
	if told := strings.Count(p.Log.String(), "file descriptors are short"); told < 1 || told > 3 {
		t.Errorf("%s says %d times that descriptors are short, want once in ten seconds", p.Name, told)
	}
}

// TestOutOfDescriptors takes all descriptors of both programs by connections that bring half of something. Everybody else is
// answered meanwhile, pushes are kept, agents are attached and can attach, and the log says what is wrong.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	r := house.StartRelay(t)
	r.Stop(t)
	r.Command.Files = fewFiles
	r.Start(t)
	dir := r.Issue(t, "site-a")
	a := house.StartAgentWith(t, r, "site-a", "", house.CertificateFlags(dir)...)

	occupy(t, strings.TrimPrefix(r.URL, "http://"), halfBody)
	wantServed(t, r.URL, "/metrics", "/-/ready", "/sd/targets", "/api/v1/agents")
	if status := client.PushOne(t, r.URL, "one", 1); status != http.StatusOK {
		t.Errorf("a push meanwhile is answered %d", status)
	}
	wantTold(t, r.Process)
	if !r.Connected(t, "site-a") {
		t.Error("the agent is not attached any more")
	}
	a.Stop(t)
	a.Start(t)

	occupy(t, r.GRPC, "\x16\x03\x01")
	wantServed(t, r.URL, "/metrics", "/-/ready")
	if !r.Connected(t, "site-a") {
		t.Error("the agent is not attached any more")
	}
	a.Stop(t)
	a.Start(t)

	a.Stop(t)
	a.Command.Files = fewFiles
	a.Start(t)
	occupy(t, strings.TrimPrefix(a.URL, "http://"), halfBody)
	wantServed(t, a.URL, "/metrics", "/-/ready", "/api/v1/status")
	wantTold(t, a.Process)
	client.Eventually(t, client.Patience, "a push arrives through the agent", func() error {
		client.PushOne(t, a.URL, "two", 2)
		value, _, err := client.ValueOf(r.URL, `full{agent="site-a", instance="", job="two"}`)
		if err == nil && value != 2 {
			err = fmt.Errorf("%w: %v", errNotArrived, value)
		}
		return err
	})
	a.Stop(t)
	r.Stop(t)
}

var errNotArrived = errors.New("it has another value")
