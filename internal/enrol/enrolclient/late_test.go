package enrolclient_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/enroltest"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
)

// late asks for the next certificate of an identity.
func late(t *testing.T, client *enrolclient.Client, id *identity.Identity) (*identity.Certificate, error) {
	t.Helper()
	m, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: id.Files()})
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := identity.Request(key)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := client.RenewLate(t.Context(), id.Relays, m.Material(), request)
	if err != nil {
		return nil, err
	}
	return id.CheckNext(issued, key)
}

// TestRenewLate: the relay is shown the certificate that has ended, and believed only if one of the identity's CAs signed its own.
func TestRenewLate(t *testing.T) {
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
	relay.Life = -time.Minute // it has ended when it comes
	address, _ := relay.Listen(t)
	j := join(t, relay.Token("site-a", address))
	if _, err := j.Attempt(t.Context()); err == nil || !strings.Contains(err.Error(), "check both clocks") {
		t.Fatalf("a certificate that has ended: %v", err)
	}
	relay.Change(func() { relay.Life = 1100 * time.Millisecond })
	j = join(t, relay.Token("site-a", address))
	id, err := j.Attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(id.Certificate.NotAfter.Add(time.Millisecond)))
	relay.Change(func() { relay.Life = time.Hour })
	if next, err := late(t, j.Client, id); err != nil || next.Agent != id.Agent {
		t.Errorf("RenewLate() = %v, %v", next, err)
	}
	relay.Revoke("site-a")
	_, err = late(t, j.Client, id)
	if failed, ok := errors.AsType[*enrolclient.Error](err); !ok || failed.Reason != enrol.ReasonRevoked || failed.Later || failed.Final() {
		t.Errorf("of one that is revoked: %v", err)
	}
	issued := len(relay.Issued())
	relay.Change(func() { relay.Pair = enroltest.NewAuthority(t, "another").RelayPair("127.0.0.1") })
	relay.Allow("site-a")
	if _, err := late(t, j.Client, id); err == nil || !strings.Contains(err.Error(), "not in the CA file") || len(relay.Issued()) != issued {
		t.Errorf("at a relay of another authority: %v", err)
	}
}

// TestEnrollThroughProxy: by CONNECT, with the words of a proxy that refuses.
func TestEnrollThroughProxy(t *testing.T) {
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "relay.test")
	address, _ := relay.Listen(t)
	var tunnels sync.WaitGroup
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "relay.test:9443" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		there, err := net.Dial("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(here, "HTTP/1.1 200 OK\r\n\r\n")
		for _, ends := range [][2]net.Conn{{here, there}, {there, here}} {
			tunnels.Go(func() {
				io.Copy(ends[0], ends[1])
				ends[0].Close()
			})
		}
	}))
	defer proxy.Close()
	defer tunnels.Wait()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	through := enrolclient.New(enrolclient.Config{Proxy: func(string) (*url.URL, error) { return at, nil }})
	j := join(t, relay.Token("site-a", "other.test:9443", "relay.test:9443"))
	j.Client = through
	if id, err := j.Attempt(t.Context()); err != nil || id.Agent.Agent != "site-a" {
		t.Errorf("Attempt() = %v, %v", id, err)
	}
	token := relay.Token("site-b", "other.test:9443")
	_, err = through.Enroll(t.Context(), &token, enrolclient.Names{}, nil)
	if failed, ok := errors.AsType[*enrolclient.Error](err); !ok || !failed.Later || !strings.Contains(err.Error(), "refuses a connection to other.test:9443: 403") {
		t.Errorf("a proxy that refuses: %v", err)
	}
}

// TestRevoked: a relay is asked whether a certificate is revoked, and nothing is issued; one of an earlier release refuses an empty request, and one that
// is not reached has not said so either.
func TestRevoked(t *testing.T) {
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
	address, stop := relay.Listen(t)
	j := join(t, relay.Token("site-a", address))
	id, err := j.Attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := mtls.NewReloader(mtls.Config{Role: mtls.Agent, Files: id.Files()})
	if err != nil {
		t.Fatal(err)
	}
	if reason, revoked := j.Client.Revoked(t.Context(), address, m.Material()); revoked {
		t.Errorf("one that is not revoked: %q", reason)
	}
	relay.Revoke("site-a")
	if reason, revoked := j.Client.Revoked(t.Context(), address, m.Material()); !revoked || reason != "this agent is revoked" {
		t.Errorf("one that is revoked: %v, %q", revoked, reason)
	}
	stop()
	if reason, revoked := j.Client.Revoked(t.Context(), address, m.Material()); revoked {
		t.Errorf("of a relay that is gone: %q", reason)
	}
	if issued := relay.Issued(); len(issued) != 1 {
		t.Errorf("%d certificates were issued", len(issued))
	}
}
