package link_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/cluster/link"
	"pushrelay/internal/exposition"
	"pushrelay/internal/faultproxy"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/ingest"
	"pushrelay/internal/scrape"
)

// A peerCA signs members, and nothing else.
type peerCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newPeerCA(t testing.TB) *peerCA {
	t.Helper()
	ca := &peerCA{key: newKey(t), pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.pool.AddCert(ca.cert)
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// configs returns what a member of that name is dialled with, and dials with.
func (ca *peerCA) configs(t testing.TB, name string) (server, client *tls.Config) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), URIs: []*url.URL{{Scheme: "spiffe", Host: "pushrelay", Path: "/member/c/" + name}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	certificates := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	server = &tls.Config{Certificates: certificates, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool}
	client = &tls.Config{Certificates: certificates, InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: ca.pool})
		return err
	}}
	return server, client
}

func identify(state tls.ConnectionState) (string, error) {
	for _, uri := range state.PeerCertificates[0].URIs {
		if name, ok := strings.CutPrefix(uri.Path, "/member/c/"); ok {
			return name, nil
		}
	}
	return "", errors.New("no member's certificate")
}

// A commits is where the changes of a store become durable, which the test can hold up.
type commits struct {
	mu   sync.Mutex
	held chan struct{} // guarded by mu; nil for what is committed at once
}

func (c *commits) Append(uint64, groupstore.Effect) (wait func(context.Context) error, err error) {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held == nil {
		return nil, nil
	}
	return func(ctx context.Context) error {
		select {
		case <-held:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}

// hold lets nothing that comes from now on become durable until it is let go.
func (c *commits) hold() (letGo func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := make(chan struct{})
	c.held = held
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.held = nil
		close(held)
	})
}

// A truth is what the engine holds: the store of whoever leads.
type truth struct {
	*groupstore.Store
	commits *commits
}

func newTruth(c *cluster) *truth {
	kept := &commits{}
	return &truth{groupstore.New(groupstore.Config{Appender: kept, AccountLabel: "agent", Gone: c.isGone}), kept}
}

// A cluster is some members in this process, which speak over real connections.
type cluster struct {
	tb      testing.TB
	ca      *peerCA
	members map[string]*member

	mu      sync.Mutex
	truth   *truth          // guarded by mu
	leads   string          // guarded by mu
	term    int64           // guarded by mu
	changed chan struct{}   // guarded by mu
	removed map[string]bool // guarded by mu
	direct  bool            // guarded by mu; nobody dials through a proxy
	asleep  map[string]bool // guarded by mu; their running keys are gone
	whim    func() bool     // guarded by mu; says that a push is put off before it is looked at; nil for never
	decided []string        // guarded by mu; what was decided, by whom and in which order
}

type member struct {
	*link.Link
	name        string
	incarnation [16]byte
	listens     string
	proxy       *faultproxy.Proxy
	local       *agents
	stop        func()

	waitFor atomic.Pointer[func(ctx context.Context, position uint64) error]
	places  atomic.Pointer[[]string]
	epoch   atomic.Int64 // the current one of every agent
	looks   atomic.Int64 // how often it has looked for processes that are gone
	quorum  atomic.Bool  // it hears a majority
}

func newCluster(tb testing.TB, names ...string) *cluster {
	tb.Helper()
	c := &cluster{tb: tb, ca: newPeerCA(tb), members: map[string]*member{}, changed: make(chan struct{}), removed: map[string]bool{}, asleep: map[string]bool{}}
	c.truth = newTruth(c)
	for _, name := range names {
		c.start(name)
	}
	return c
}

// start starts a member whose connections come through a proxy.
func (c *cluster) start(name string) *member {
	c.tb.Helper()
	m := &member{name: name, local: &agents{}}
	rand.Read(m.incarnation[:])
	serverTLS, clientTLS := c.ca.configs(c.tb, name)
	reg := prometheus.NewPedanticRegistry()
	store := ledStore{c, m}
	m.Link = link.New(link.Config{
		Name: name, Incarnation: m.incarnation,
		ServerTLS: func() *tls.Config { return serverTLS }, ClientTLS: func() *tls.Config { return clientTLS }, Identify: identify,
		Members: c.names, IsMember: c.isMember, Address: c.address,
		Leader: func() link.Leader { return c.leader(name) }, Running: c.running,
		EpochCurrent: func(_ string, epoch int64) bool { return epoch == m.epoch.Load() },
		Gone:         c.isGone, Journals: func() [][16]byte { m.looks.Add(1); return c.store().Journals("") },
		Push: ingest.New(ingest.Config{Store: store, AgentLabel: "agent", Registerer: reg}), Store: store,
		WaitFor: func(ctx context.Context, position uint64) error {
			if wait := m.waitFor.Load(); wait != nil {
				return (*wait)(ctx, position)
			}
			return nil
		},
		Timeout: time.Minute,
		Local:   m.local, Here: m.local.has, Places: func(string) []string {
			if places := m.places.Load(); places != nil {
				return *places
			}
			return nil
		},
		State: func() link.State {
			return link.State{Revision: int64(len(name)), Position: 10 * uint64(len(name)), Lag: time.Second, Term: 7, HasQuorum: m.quorum.Load()}
		},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)).With(slog.String("member", name)), Registerer: reg,
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.tb.Fatal(err)
	}
	m.listens = listener.Addr().String()
	if m.proxy, err = faultproxy.Listen(faultproxy.Config{Address: listener.Addr().String()}); err != nil {
		c.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { accept(listener, m.Server) })
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			c.tb.Errorf("member %s ended: %v", name, err)
		}
	})
	m.stop = sync.OnceFunc(func() {
		listener.Close()
		cancel()
		m.proxy.Close()
		running.Wait()
	})
	c.tb.Cleanup(m.stop)
	c.mu.Lock()
	c.members[name] = m
	c.mu.Unlock()
	return m
}

// accept is the agents' port, as far as members go.
func accept(listener net.Listener, server *link.Server) {
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	for {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		handshakes.Go(func() {
			conn := tls.Server(raw, server.TLSConfig())
			raw.SetDeadline(time.Now().Add(5 * time.Second))
			if conn.Handshake() != nil {
				raw.Close()
				return
			}
			raw.SetDeadline(time.Time{})
			server.Take(conn)
		})
	}
}

func (c *cluster) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name := range c.members {
		if !c.removed[name] {
			names = append(names, name)
		}
	}
	return names
}

func (c *cluster) isMember(name string) bool { return slices.Contains(c.names(), name) }

func (c *cluster) address(name string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.members[name]; m != nil {
		if c.direct {
			return m.listens, true
		}
		return m.proxy.Addr(), true
	}
	return "", false
}

// running is asked under the store's lock.
func (c *cluster) running(name string) ([16]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[name]
	if m == nil || c.asleep[name] {
		return [16]byte{}, false
	}
	return m.incarnation, true
}

func (c *cluster) isGone(incarnation [16]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, m := range c.members {
		if m.incarnation == incarnation {
			return c.asleep[name]
		}
	}
	return true
}

func (c *cluster) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *cluster) leader(of string) link.Leader {
	c.mu.Lock()
	defer c.mu.Unlock()
	return link.Leader{Name: c.leads, Term: c.term, Leads: c.leads == of, Changed: c.changed}
}

// lead makes a member the leader, empty for none. With a truth of its own, what the one before had not committed is lost.
func (c *cluster) lead(name string, with ...*truth) {
	c.set(func() {
		c.leads = name
		c.term++
		if len(with) > 0 {
			c.truth = with[0]
		}
		close(c.changed)
		c.changed = make(chan struct{})
	})
}

func (c *cluster) store() *truth {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.truth
}

// ledStore is the store as one member has it: it decides while that member leads.
type ledStore struct {
	cluster *cluster
	member  *member
}

func (s ledStore) at() (*truth, bool) {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	return s.cluster.truth, s.cluster.leads == s.member.name
}

func (s ledStore) Apply(ctx context.Context, c *change.Change, content groupstore.Content) (change.Outcome, groupstore.Finding) {
	store, leads := s.at()
	if !leads {
		return *change.Refuse(change.NotWritable, "another relay decides"), groupstore.OtherSeries
	}
	var whim func() bool
	s.cluster.set(func() { whim = s.cluster.whim })
	if whim != nil && whim() {
		return *change.Refuse(change.Unavailable, "not now"), groupstore.OtherSeries
	}
	deposed := false // one that leads no longer commits nothing
	with := *c
	with.Current = func() bool { // in the moment in which it takes effect
		now, leads := s.at()
		deposed = !leads || now != store
		ok := (c.Current == nil || c.Current()) && !deposed
		if ok && c.Operation != change.Forget {
			s.cluster.set(func() { s.cluster.decided = append(s.cluster.decided, s.member.name+" "+shown(c)) })
		}
		return ok
	}
	o, found := store.Apply(ctx, &with, content)
	if deposed {
		return *change.Refuse(change.NotWritable, "another relay decides"), groupstore.OtherSeries
	}
	if now, leads := s.at(); now != store || !leads && o.Decided.Position > 0 && o.Kind != change.Applied {
		return change.Outcome{Kind: change.NotWritable, Detail: "deposed", Decided: o.Decided}, found // what it had decided is in doubt
	}
	return o, found
}

func shown(c *change.Change) string {
	fields := bytes.Fields(c.Body)
	if len(fields) == 0 {
		return c.Operation.String()
	}
	return string(fields[len(fields)-1])
}

// ApplyBodiless is Apply.
func (s ledStore) ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome {
	o, _ := s.Apply(ctx, c, groupstore.Content{})
	return o
}

func (s ledStore) SetsOf(c *change.Change, body *exposition.Body) *groupstore.Sets {
	return s.cluster.store().SetsOf(c, body)
}

func (s ledStore) Decided(agent string, journal [16]byte) (uint64, change.Digest, bool) {
	return s.cluster.store().Decided(agent, journal)
}

func (s ledStore) Stats() groupstore.Stats { return s.cluster.store().Stats() }

// takeDecided returns what took effect, or was looked at, since it was asked before.
func (c *cluster) takeDecided() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.decided
	c.decided = nil
	return taken
}

func keyOf(tb testing.TB, pairs ...string) grouping.Key {
	tb.Helper()
	var labels []grouping.Label
	for i := 0; i < len(pairs); i += 2 {
		labels = append(labels, grouping.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	key, err := grouping.New(labels...)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// pushOf returns a push of the group of a job, with one value.
func pushOf(tb testing.TB, job string, value any) *change.Change {
	tb.Helper()
	return &change.Change{Operation: change.Replace, Key: keyOf(tb, "job", job), Format: exposition.Text004, Body: fmt.Appendf(nil, "# TYPE done gauge\ndone{n=\"%v\"} %v\n", value, value), At: time.Now()}
}

// text is what the store exposes.
func (c *cluster) text() string {
	var b bytes.Buffer
	if err := c.store().Snapshot().Write(&b, groupstore.Form{Format: exposition.Text004}, nil); err != nil {
		c.tb.Error(err)
	}
	return b.String()
}

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("never happened: %s", what)
		}
	}
}

// A pending is a push that waits for its answer.
type pending struct {
	answer chan change.Outcome
	cancel context.CancelFunc
}

// push begins a push, and returns once it waits for who decides.
func (m *member) push(tb testing.TB, c *change.Change) *pending {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	p := &pending{make(chan change.Outcome, 1), cancel}
	before := m.Forwarder.Waiting()
	go func() {
		defer cancel()
		p.answer <- m.Forwarder.Apply(ctx, c)
	}()
	eventually(tb, "the push is taken in", func() bool { return m.Forwarder.Waiting() > before })
	return p
}

// agents is a scraper of the sessions of one member.
type agents struct {
	scrape func(ctx context.Context, r *scrape.Request) (*scrape.Response, error)
	here   atomic.Bool
	asked  atomic.Int64
}

func (a *agents) has(string) bool { return a.here.Load() }

func (a *agents) Scrape(ctx context.Context, r *scrape.Request) (*scrape.Response, error) {
	a.asked.Add(1)
	if a.scrape == nil {
		return nil, scrape.Errorf(scrape.AgentOffline, "agent %q is not here", r.Agent)
	}
	return a.scrape(ctx, r)
}
