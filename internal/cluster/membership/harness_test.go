package membership_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"

	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/relayapi"
)

// patience bounds what takes as long as etcd wants: it adds a member only once all have heard one another for five seconds.
const patience = time.Minute

// linkProtocol is what members speak with one another.
const linkProtocol = "relay-member/1"

// node is a member that runs, as a relay would run it.
type node struct {
	dataDir string
	dir     *membership.Dir
	engine  *engine.Engine
	certs   *membership.Certificates
	members *membership.Members
	office  *membership.Office
	link    string

	leader    string // what Office.Leader says
	restarts  int    // how often Restart was called
	stop      func()
	stopOnce  sync.Once
	runResult chan error
}

// address returns one of this machine that nobody uses.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func addresses(t *testing.T) membership.Addresses {
	t.Helper()
	return membership.Addresses{Peer: address(t), Link: address(t), Web: "127.0.0.1:9091"}
}

// found makes the first member of a cluster.
func found(t *testing.T, name string) (dataDir string) {
	t.Helper()
	dataDir = t.TempDir()
	if _, err := membership.Found(membership.Founding{DataDir: dataDir, Name: name, Addresses: addresses(t), Listen: "", Release: "v1"}); err != nil {
		t.Fatal(err)
	}
	return dataDir
}

// open opens a data dir that is a member's.
func open(t *testing.T, dataDir string) *membership.Dir {
	t.Helper()
	d, err := membership.Open(dataDir, "v1")
	if err != nil || d == nil {
		t.Fatalf("opening %s: %v, %v", dataDir, d, err)
	}
	return d
}

// start starts a member as a relay does, and what was pending is done.
func start(t *testing.T, dataDir string) *node {
	t.Helper()
	n, err := tryStart(t, dataDir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryStart(t *testing.T, dataDir string) (*node, error) {
	t.Helper()
	d := open(t, dataDir)
	n := &node{dataDir: dataDir, dir: d, link: d.Member().Link, leader: d.Member().Name, runResult: make(chan error, 1)}
	starting, cancelStart := context.WithTimeout(t.Context(), patience)
	defer cancelStart()
	peers := membership.Peers{Dir: d}
	if err := d.Prepare(starting, peers.Confirm); err != nil {
		return nil, err
	}
	if d.Member().Pending == membership.Import {
		if err := d.BeginImport(); err != nil {
			return nil, err
		}
	}
	var err error
	logger := promslog.NewNopLogger()
	if n.certs, err = membership.NewCertificates(membership.CertificatesConfig{Dir: d, Renew: peers.Renew, Logger: logger}); err != nil {
		return nil, err
	}
	if n.engine, err = engine.Start(starting, d.Engine()); err != nil {
		return nil, err
	}
	if err := d.Enter(starting, n.engine.Client()); err != nil {
		n.engine.Close()
		return nil, err
	}
	if d.Member().Pending != membership.Nothing {
		if err := d.Done(); err != nil {
			return nil, err
		}
	}
	n.run(t)
	return n, nil
}

// run runs what belongs to a member.
func (n *node) run(t *testing.T) {
	t.Helper()
	logger := promslog.NewNopLogger()
	n.members = membership.NewMembers(membership.Config{Client: n.engine.Client(), Engine: n.engine, Dir: n.dir, Release: "v1", Level: 1, Logger: logger})
	n.office = membership.NewOffice(membership.OfficeConfig{
		DataDir: n.dataDir, Release: "v1", Dir: n.dir, Members: n.members, Client: n.engine.Client(), Leader: func() string { return n.leader },
		HandOver: func(context.Context) error { n.leader = "another"; return nil }, Restart: func() { n.restarts++ }, Logger: logger,
	})
	door := membership.NewDoor(membership.DoorConfig{
		Client: n.engine.Client(), Dir: n.dir, Certificates: n.certs, Logger: logger,
		Authority: func() (certificate, key []byte, err error) {
			return []byte("certificate of agents"), []byte("key of agents"), nil
		},
	})
	port, err := net.Listen("tcp", n.link)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.runResult <- n.members.Run(ctx) })
	running.Go(func() { n.certs.Run(ctx) })
	running.Go(func() { door.Serve() })
	running.Go(func() { serveLink(port, n.certs, door, &running) })
	n.stop = func() {
		n.stopOnce.Do(func() {
			cancel()
			port.Close()
			door.Stop()
			running.Wait()
			n.engine.Close()
		})
	}
	t.Cleanup(n.stop)
}

// serveLink is the agents' port: the protocol says whose connection it is.
func serveLink(port net.Listener, certs *membership.Certificates, door *membership.Door, running *sync.WaitGroup) {
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, membership.JoinProtocol) {
			return door.TLSConfig(), nil
		}
		config := certs.ServerTLS()
		config.NextProtos = []string{linkProtocol}
		return config, nil
	}}
	for {
		raw, err := port.Accept()
		if err != nil {
			return
		}
		running.Go(func() {
			raw.SetDeadline(time.Now().Add(5 * time.Second))
			conn := tls.Server(raw, config)
			if err := conn.Handshake(); err != nil {
				raw.Close()
				return
			}
			if conn.ConnectionState().NegotiatedProtocol == membership.JoinProtocol {
				raw.SetDeadline(time.Time{})
				door.Take(conn)
				return
			}
			defer conn.Close()
			name, err := certs.Identify(conn.ConnectionState())
			if err == nil {
				conn.Write([]byte("hello " + name))
			}
		})
	}
}

// token makes one for a member.
func (n *node) token(t *testing.T, name string, witness bool) string {
	t.Helper()
	made, err := n.office.Token(t.Context(), relayapi.NewMemberToken{Name: name, TTLSeconds: 900, Witness: witness})
	if err != nil {
		t.Fatal(err)
	}
	return made.Text
}

// joining is that of a data dir that is empty.
func joining(t *testing.T, token string) membership.Joining {
	t.Helper()
	return membership.Joining{DataDir: t.TempDir(), Token: token, Addresses: addresses(t), Release: "v1"}
}

// join joins.
func join(t *testing.T, j membership.Joining) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := membership.Join(ctx, j); err != nil {
		t.Fatal(err)
	}
	return j.DataDir
}

// joined starts a member that has joined by a new token of another one, and waits until it counts.
func joined(t *testing.T, by *node, name string) *node {
	t.Helper()
	n := start(t, join(t, joining(t, by.token(t, name, false))))
	by.until(t, name+" counts", func(s relayapi.ClusterStatus) bool { return roleOf(s, name) == relayapi.RoleVoter })
	return n
}

func roleOf(s relayapi.ClusterStatus, name string) string {
	for _, m := range s.Members {
		if m.Name == name {
			return m.Role
		}
	}
	return ""
}

// until waits for what the status says.
func (n *node) until(t *testing.T, what string, want func(relayapi.ClusterStatus) bool) relayapi.ClusterStatus {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s, err := n.office.Status(t.Context())
		if err == nil && want(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %+v, %v", what, patience, s, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// copyTree copies a directory as a backup program does.
func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// wantError checks that an error is of a kind, and in words.
func wantError(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got %v, want %v", err, kind)
	}
}
