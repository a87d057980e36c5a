package membership_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/relayapi"
)

// TestLife: one member, then three, then two, then a relay of its own.
func TestLife(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	if m := a.dir.Member(); m.Pending != membership.Nothing || m.Joined != "init" {
		t.Errorf("a is %+v", m)
	}
	b := joined(t, a, "b")
	c := joined(t, b, "c")

	if content, err := os.ReadFile(filepath.Join(b.dataDir, "authority", "ca.key")); err != nil || string(content) != "key of agents" {
		t.Errorf("the authority of agents has not come: %q, %v", content, err)
	}
	if left, err := filepath.Glob(filepath.Join(b.dataDir, "cluster.*")); err != nil || len(left) > 0 {
		t.Errorf("%q is left of the join, %v", left, err)
	}
	s := a.until(t, "all three run", func(s relayapi.ClusterStatus) bool { return s.MayFail == 1 })
	if want := "Any one member may fail"; !s.Majority || len(s.Words) != 1 || !strings.HasPrefix(s.Words[0], want) || s.Leader != "a" {
		t.Errorf("three that run: %+v", s)
	}
	for _, n := range []*node{a, b, c} {
		waitFor(t, "all are seen", func() bool { return len(n.members.All()) == 3 })
		waitFor(t, "c runs", func() bool {
			of, running := n.members.Running("c")
			own, present := c.members.Own()
			return running && present && of.Incarnation == own.Incarnation && of.Release == "v1" && of.Level == 1
		})
		if address, is := n.members.Address("b"); !is || address != b.link || !n.members.IsMember("b") || n.members.IsMember("d") {
			t.Errorf("%s is told that b is at %q, %v", n.members.Name(), address, is)
		}
	}

	// Whoever ends says so at once, and comes back as the member that it was, another incarnation.
	before, _ := c.members.Own()
	c.stop()
	s = a.until(t, "c is away", func(s relayapi.ClusterStatus) bool { return s.MayFail == 0 })
	if len(s.Words) != 2 || !strings.HasPrefix(s.Words[0], "If one more voter fails, pushes are refused") || !strings.HasPrefix(s.Words[1], "Not running, or not heard: c.") {
		t.Errorf("two of three: %q", s.Words)
	}
	if a.members.Gone(before.Incarnation) {
		t.Error("one that is away is taken for gone")
	}
	c = start(t, c.dataDir)
	waitFor(t, "what c was is gone", func() bool { return a.members.Gone(before.Incarnation) && !a.members.Gone(c.dir.Incarnation()) })
	waitFor(t, "c is back", func() bool {
		of, running := a.members.Running("c")
		return running && of.Incarnation != before.Incarnation
	})

	if _, err := a.office.Remove(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "relay-server cluster leave") {
		t.Errorf("removing itself: %v", err)
	}
	if _, err := a.office.Remove(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), `there is no member "x"`) {
		t.Errorf("removing nobody: %v", err)
	}
	remove(t, a, "c")
	waitFor(t, "c is gone", func() bool { return !a.members.IsMember("c") && !b.members.IsMember("c") })
	select {
	case err := <-c.runResult:
		wantError(t, err, membership.ErrRemoved)
	case <-time.After(patience):
		t.Error("c does not notice that it was removed")
	}
	c.stop()
	_, err := tryStart(t, c.dataDir)
	wantError(t, err, membership.ErrRemoved)

	if _, err := b.office.HandOver(t.Context()); err != nil || b.leader != "another" {
		t.Errorf("handing over: %v", err)
	}
	a.leader = "b"
	if _, err := a.office.HandOver(t.Context()); err == nil || !strings.Contains(err.Error(), `member "a" does not lead, "b" does`) {
		t.Errorf("handing over what it has not: %v", err)
	}
	const keys = 300
	for i := range keys {
		if _, err := a.engine.Client().Put(t.Context(), fmt.Sprintf("/kept/%03d", i), "value"); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "b has all", func() bool { return has(t, b, "/kept/299") })
	leave(t, b, false)
	b.stop()
	// What it held can be read, although its etcd starts no more.
	read := 0
	err = engine.Read(t.Context(), b.dir.Engine().Dir, "/kept/", func(key string, value []byte) error {
		if want := fmt.Sprintf("/kept/%03d", read); key != want || string(value) != "value" {
			t.Errorf("read %q with %q, want %q", key, value, want)
		}
		read++
		return nil
	})
	if err != nil || read != keys {
		t.Errorf("read %d keys, %v", read, err)
	}
	if err := engine.Read(t.Context(), t.TempDir(), "/", nil); err == nil {
		t.Error("what is not there was read")
	}
	waitFor(t, "b is off the list", func() bool { return !a.members.IsMember("b") })
	if m := open(t, b.dataDir).Member(); m.Pending != membership.Leave {
		t.Errorf("b has left, and its data dir says %+v", m)
	}
	if err := open(t, b.dataDir).Done(); err != nil {
		t.Fatal(err)
	}
	if d, err := membership.Open(b.dataDir, "v1"); d != nil || err != nil {
		t.Errorf("after all is done it is none: %v, %v", d, err)
	}
	leave(t, a, true)
}

func remove(t *testing.T, by *node, name string) {
	t.Helper()
	if _, err := by.office.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func leave(t *testing.T, n *node, last bool) {
	t.Helper()
	gone, err := n.office.Leave(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if gone.Last != last || n.restarts != 1 {
		t.Errorf("left: %+v, and %d restarts", gone, n.restarts)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// dial dials a link, and returns what the member there says.
func dial(address string, config *tls.Config) (string, error) {
	if config.NextProtos == nil {
		config.NextProtos = []string{linkProtocol}
	}
	conn, err := tls.DialWithDialer(&dialer, "tcp", address, config)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	said, err := io.ReadAll(conn)
	return string(said), err
}

// TestForceNew: of a lost majority one member goes on alone, under new ids, and nobody of the lost ones can speak with it.
func TestForceNew(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	b := joined(t, a, "b")
	if _, err := a.engine.Client().Put(t.Context(), "/kept", "yes"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "b has it", func() bool { return has(t, b, "/kept") })
	cluster := a.dir.Member().Cluster
	a.stop()
	s := b.until(t, "no majority", func(s relayapi.ClusterStatus) bool { return !s.Majority })
	if !strings.HasPrefix(s.Words[0], "No majority of the voters answers, 2 of 2: pushes are refused") || !strings.Contains(s.Words[1], "relay-server cluster force-new") {
		t.Errorf("without a majority: %q", s.Words)
	}
	b.stop()
	d := open(t, b.dataDir)
	former := authorityIn(t, b.dataDir)
	lost, err := d.ForceBegin()
	if err != nil || len(lost) != 1 || lost[0] != "a" {
		t.Fatalf("force-new: %q, %v", lost, err)
	}
	if authorityIn(t, b.dataDir) == former {
		t.Error("the new cluster has the authority of the lost one")
	}
	// Cut short, its files are of the lost cluster still.
	for _, file := range []string{"peer-ca.crt", "peer-ca.key", "member.pem"} {
		content, err := os.ReadFile(filepath.Join(a.dataDir, "cluster", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dataDir, "cluster", file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b = start(t, b.dataDir)
	if authorityIn(t, b.dataDir) == former {
		t.Error("the new cluster has the authority of the lost one again")
	}
	if m := b.dir.Member(); m.Cluster == cluster || m.Joined != "force-new" || m.Pending != membership.Nothing {
		t.Errorf("b is %+v", m)
	}
	if !has(t, b, "/kept") {
		t.Error("what it held is gone")
	}
	waitFor(t, "b alone", func() bool { return len(b.members.All()) == 1 && b.members.IsMember("b") })
	if s := b.until(t, "b alone", func(s relayapi.ClusterStatus) bool { return s.Majority }); len(s.Members) != 1 || !strings.HasPrefix(s.Words[0], "This is the only voter.") {
		t.Errorf("b alone: %+v", s)
	}
	if said, err := dial(b.link, a.certs.ClientTLS("")); err == nil {
		t.Errorf("a speaks with b: %q", said)
	}
	joined(t, b, "c")
}

// authorityIn returns the certificate of the members' authority that a data dir has.
func authorityIn(t *testing.T, dataDir string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dataDir, "cluster", "peer-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func has(t *testing.T, n *node, key string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got, err := n.engine.Client().Get(ctx, key)
	return err == nil && len(got.Kvs) == 1
}
