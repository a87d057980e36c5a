package link_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pushrelay/internal/cluster/link"
	"pushrelay/internal/faultproxy"
	"pushrelay/internal/scrape"
)

// TestStates: members hear how the others are, and that somebody is silent shows.
func TestStates(t *testing.T) {
	c := newCluster(t, "a", "bb", "ccc")
	a := c.members["a"]
	want := map[string]link.State{}
	for _, name := range c.names() {
		want[name] = link.State{Revision: int64(len(name)), Position: 10 * uint64(len(name)), Lag: time.Second, Term: 7}
	}
	eventually(t, "all are heard", func() bool { return len(a.States()) == len(want) })
	if diff := cmp.Diff(want, a.States(), cmpopts.IgnoreFields(link.State{}, "Heard")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	c.members["bb"].stop()
	heard := a.States()
	eventually(t, "the others are heard again", func() bool { return a.States()["ccc"].Heard.After(heard["ccc"].Heard.Add(time.Second)) })
	if now := a.States()["bb"].Heard; now.After(heard["bb"].Heard.Add(500 * time.Millisecond)) {
		t.Error("a member that has stopped is heard")
	}
	c.set(func() { c.removed["bb"] = true })
	if _, ok := a.States()["bb"]; ok {
		t.Error("one that is no member any more has a state")
	}
}

// TestSilentConnection: a connection that swallows everything is given up, and the next one is good.
func TestSilentConnection(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	a, b := c.members["a"], c.members["b"]
	if o := b.Forwarder.Apply(t.Context(), pushOf(t, "j", 1)); !o.IsTaken() {
		t.Fatalf("%+v", o)
	}
	before := a.proxy.Accepted()
	a.proxy.Set(faultproxy.Conditions{Freeze: faultproxy.Both})
	p := b.push(t, pushOf(t, "j", 2))
	eventually(t, "it is dialled anew", func() bool { return a.proxy.Accepted() > before })
	a.proxy.Set(faultproxy.Conditions{})
	if o := <-p.answer; !o.IsTaken() || !strings.Contains(c.text(), `n="2"`) {
		t.Errorf("%+v", o)
	}
}

// TestMembersOnly: nobody is served who is no member now, and nobody else is taken for one.
func TestMembersOnly(t *testing.T) {
	c := newCluster(t, "a", "b")
	c.lead("a")
	a, b := c.members["a"], c.members["b"]
	within := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return b.Forwarder.Apply(ctx, pushOf(t, "j", 1)).IsTaken()
	}
	if !within() {
		t.Fatal("a member is not served")
	}
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := b.at("a").Scraper.Scrape(ctx, scrapeOf())
		return err
	}
	wantReason(t, "a member that asks", ask(), scrape.AgentOffline, "is not here")
	still := silentConn(t, c, "b") // which nobody closes at its end
	c.set(func() { c.removed["b"] = true })
	wantReason(t, "one that was removed, over the connection that it has yet", ask(), scrape.AgentOffline, "cannot be asked")
	if _, err := io.Copy(io.Discard, still); isTimeout(err) {
		t.Error("a connection of one that was removed stays")
	}
	still.Close()
	eventually(t, "its connections are closed", func() bool { return a.proxy.Open() == 0 })
	if within() {
		t.Error("one that was removed is served")
	}
	c.set(func() { c.removed["b"] = false })
	eventually(t, "it is served again", within)

	for _, tt := range []struct {
		what string
		ca   *peerCA
		name string
	}{{"another authority", newPeerCA(t), "b"}, {"a name that is in no list", c.ca, "nobody"}} {
		_, client := tt.ca.configs(t, tt.name)
		client = client.Clone()
		client.NextProtos, client.VerifyConnection = []string{link.Protocol}, nil
		conn, err := tls.Dial("tcp", a.proxy.Addr(), client)
		if err != nil {
			continue
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s is served", tt.what)
		} else if isTimeout(err) {
			t.Errorf("%s is not turned away", tt.what)
		}
		conn.Close()
	}
	other := c.start("c")
	c.set(func() { b.proxy, other.proxy = other.proxy, b.proxy }) // who dials one meets the other
	defer c.set(func() { b.proxy, other.proxy = other.proxy, b.proxy })
	other.proxy.Cut(faultproxy.Reset) // what a has to the one that it means
	before := b.proxy.Accepted()
	c.lead("b")
	eventually(t, "a connects", func() bool { return b.proxy.Accepted() > before })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if o := a.Forwarder.Apply(ctx, pushOf(t, "wrong", 1)); o.IsTaken() {
		t.Error("another member than the one that was dialled decides")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := a.at("b").Scraper.Scrape(ctx, scrapeOf()); err == nil || other.local.asked.Load() > 0 {
		t.Errorf("another member than the one that was dialled is asked: %v", err)
	}
}

// connAs opens a connection to member a with a certificate of a member, which ends with the test.
func (c *cluster) connAs(t *testing.T, name string) *tls.Conn {
	t.Helper()
	_, client := c.ca.configs(t, name)
	client.NextProtos = []string{link.Protocol}
	conn, err := tls.Dial("tcp", c.members["a"].proxy.Addr(), client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// silentConn opens a connection of a member to member a, and says nothing on it. Reading gives up long before the other end does because of that.
func silentConn(t *testing.T, c *cluster, name string) net.Conn {
	t.Helper()
	conn := c.connAs(t, name)
	conn.SetDeadline(time.Now().Add(6 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil { // HTTP/2 speaks first
		t.Fatal(err)
	}
	return conn
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// TestConnectionsAreBounded: one member takes no more than a few.
func TestConnectionsAreBounded(t *testing.T) {
	c := newCluster(t, "a")
	c.set(func() { c.members["b"] = &member{name: "b", proxy: c.members["a"].proxy} })
	defer c.set(func() { delete(c.members, "b") })
	_, client := c.ca.configs(t, "b")
	client.NextProtos = []string{link.Protocol}
	served := 0
	for range 8 {
		conn, err := tls.Dial("tcp", c.members["a"].proxy.Addr(), client)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil { // HTTP/2 speaks first
			served++
		}
	}
	if served != 4 {
		t.Errorf("%d connections of one member are served, want 4", served)
	}
}
