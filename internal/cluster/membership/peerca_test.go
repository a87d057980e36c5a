package membership_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pushrelay/internal/cluster/membership"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/tunnel/relayconn"
)

// peerCA is an authority of members that somebody has made.
type peerCA struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// newPeerCA makes one as genCAWithKey of Helm does, in a directory as Kubernetes mounts a Secret. Change may change the certificate.
func newPeerCA(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) peerCA {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "relay members"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(10, 0, 0),
		KeyUsage:    x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return peerCA{secretDir(t, map[string][]byte{"tls.crt": mtls.EncodeCertificates(der), "tls.key": encodeKey(t, key)}), cert, key}
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// encodeKey writes an ECDSA key as Helm does, and others as PKCS #8.
func encodeKey(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		der, err := x509.MarshalECPrivateKey(ec)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	}
	text, err := mtls.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// secretDir lays files out as Kubernetes does a Secret, with mode 0440; of root and another group, if the test may do that.
func secretDir(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	version := filepath.Join(dir, "..2026_01_01")
	if err := os.Mkdir(version, 0o750); err != nil {
		t.Fatal(err)
	}
	links := map[string]string{"..data": "..2026_01_01"}
	for name, content := range files {
		file := filepath.Join(version, name)
		if err := os.WriteFile(file, content, 0o440); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(file, 0, 65534); err != nil {
				t.Fatal(err)
			}
		}
		links[name] = filepath.Join("..data", name)
	}
	for name, leads := range links {
		if err := os.Symlink(leads, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// joiningBy is that of an empty data dir by the authority's key; the members are asked of those addresses.
func (ca peerCA) joiningBy(t *testing.T, name string, members ...string) membership.Joining {
	t.Helper()
	return membership.Joining{DataDir: t.TempDir(), PeerCADir: ca.dir, Name: name, Members: members, Addresses: addresses(t), Release: "v1"}
}

// began makes the first member of a cluster of the authority, by asking whether there is one.
func (ca peerCA) began(t *testing.T, name string) *node {
	t.Helper()
	j := ca.joiningBy(t, name, address(t))
	j.OrInitAs = name
	return start(t, join(t, j))
}

// TestOneCommandForAll: relays that are started at once, with an authority of their own, and of which one may begin, are one cluster.
func TestOneCommandForAll(t *testing.T) {
	t.Parallel()
	ca := newPeerCA(t, newECKey(t), nil)
	var all []membership.Joining
	var links []string
	for _, name := range []string{"a", "b", "c"} {
		j := ca.joiningBy(t, name)
		j.OrInitAs, j.InitAfter = "a", time.Second
		all, links = append(all, j), append(links, j.Link)
	}
	var joining sync.WaitGroup
	nodes := make([]*node, len(all))
	for i, j := range all {
		j.Members = links
		joining.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			if _, err := membership.Join(ctx, j); err != nil {
				t.Error(err)
				return
			}
			var err error
			if nodes[i], err = tryStart(t, j.DataDir); err != nil {
				t.Error(err)
			}
		})
	}
	joining.Wait()
	if t.Failed() {
		return
	}
	nodes[0].until(t, "all three count", func(s relayapi.ClusterStatus) bool { return s.MayFail == 1 && len(s.Members) == 3 })
	cluster := nodes[0].dir.Member().Cluster
	for i, n := range nodes {
		m := n.dir.Member()
		if m.Cluster != cluster || (m.Joined == "init") != (i == 0) {
			t.Errorf("%s is of cluster %s, by %s", m.Name, m.Cluster, m.Joined)
		}
		content, err := os.ReadFile(filepath.Join(n.dataDir, "cluster", "peer-ca.crt"))
		if err != nil || string(content) != string(mtls.EncodeCertificates(ca.cert.Raw)) {
			t.Errorf("%s has another authority: %v", m.Name, err)
		}
	}
	// Whoever has joined so lets others in as any member does.
	token := nodes[1].token(t, "d", false)
	d := start(t, join(t, membership.Joining{DataDir: t.TempDir(), Token: token, Addresses: addresses(t), Release: "v1"}))
	nodes[0].until(t, "d counts", func(s relayapi.ClusterStatus) bool { return roleOf(s, d.members.Name()) == relayapi.RoleVoter })

	again := ca.joiningBy(t, "b", links...)
	refusedJoin(t, "a name that has started", again, `there is a member "b" already`)
	full := ca.joiningBy(t, "a", links...)
	full.OrInitAs = "a"
	fill(t, full.DataDir)
	refusedJoin(t, "with something in it, and a cluster there", full, `there is a cluster already, of which a member answers, and --data.dir`)
	full.OrInitAs = ""
	refusedJoin(t, "with something in it", full, `is not empty, it has "agents.json"`)
	other := newPeerCA(t, newECKey(t), nil).joiningBy(t, "e", links...)
	other.OrInitAs = "e"
	refusedJoin(t, "another authority", other, "its authority has another fingerprint")
}

// fill puts something of a relay into a data dir.
func fill(t *testing.T, dataDir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dataDir, "agents.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBeginWithWhatThereIs: the one that may begin keeps what it holds, and goes on where a join was cut short.
func TestBeginWithWhatThereIs(t *testing.T) {
	t.Parallel()
	ca := newPeerCA(t, newECKey(t), nil)
	alone := newTLSServer(t) // it is no member
	j := ca.joiningBy(t, "a", alone, address(t))
	j.OrInitAs = "a"
	fill(t, j.DataDir)
	d, err := membership.Join(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(j.DataDir, "agents.json")); err != nil || string(content) != "{}" || d.Member().Pending != membership.Import {
		t.Errorf("it holds %q, %v, and is %+v", content, err, d.Member())
	}
	short := ca.joiningBy(t, "a", address(t))
	short.OrInitAs, short.InitAfter = "a", time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := ""
	short.Progress = func(words string) {
		told = words
		cancel()
	}
	if _, err := membership.Join(ctx, short); err == nil || !strings.Contains(told, "if nobody answers as a member for 1h0m0s, a begins a cluster") {
		t.Errorf("it begins at once: %v, %q", err, told)
	}
	short.InitAfter, short.Progress = 0, nil
	own, err := net.Listen("tcp", short.Link) // it does not ask itself
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	short.Members = append(short.Members, short.Link)
	join(t, short)
	if left, err := filepath.Glob(filepath.Join(short.DataDir, "cluster.*")); err != nil || len(left) > 0 {
		t.Errorf("%q is left of the join, %v", left, err)
	}
}

// newTLSServer is something that speaks TLS and is no member.
func newTLSServer(t *testing.T) string {
	t.Helper()
	ca := newPeerCA(t, newECKey(t), nil)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{{Certificate: [][]byte{ca.cert.Raw}, PrivateKey: ca.key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// TestNoSecondCluster: nobody begins a cluster beside members that have no majority, or that are not up yet.
func TestNoSecondCluster(t *testing.T) {
	t.Parallel()
	ca := newPeerCA(t, newECKey(t), nil)
	a := ca.began(t, "a")
	b := joined(t, a, "b")
	b.stop()
	starting, err := net.Listen("tcp", "127.0.0.1:0") // it has its port, and does not serve
	if err != nil {
		t.Fatal(err)
	}
	defer starting.Close()
	for what, tt := range map[string]struct{ link, want string }{
		"no majority": {a.link, "the cluster does not answer this member just now"},
		"not up yet":  {starting.Addr().String(), "it may be a member that waits for a majority"},
	} {
		j := ca.joiningBy(t, "c", tt.link)
		j.OrInitAs, j.InitAfter = "c", time.Nanosecond
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var told []string
		j.Progress = func(words string) {
			if told = append(told, words); len(told) == 2 {
				cancel()
			}
		}
		_, err := membership.Join(ctx, j)
		cancel()
		if err == nil || len(told) != 2 || !strings.Contains(told[1], tt.want) {
			t.Errorf("%s: %v, %q", what, err, told)
		}
	}
}

// TestProofs: the door takes what the authority has signed for joining, and nothing else: no member's certificate, which a witness has as well.
func TestProofs(t *testing.T) {
	t.Parallel()
	ca := newPeerCA(t, newECKey(t), nil)
	a := ca.began(t, "a")
	member, err := tls.LoadX509KeyPair(filepath.Join(a.dataDir, "cluster", "member.pem"), filepath.Join(a.dataDir, "cluster", "member.pem"))
	if err != nil {
		t.Fatal(err)
	}
	stranger := newPeerCA(t, newECKey(t), nil)
	joiningURI := mtls.JoiningURI("b")
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	const lets = "the certificate lets nobody in"
	for what, tt := range map[string]struct {
		shown   *tls.Certificate
		witness bool
		code    codes.Code
		want    string
	}{
		"nothing":                 {nil, false, codes.PermissionDenied, notGood},
		"a member's":              {&member, false, codes.PermissionDenied, lets},
		"another authority's":     {stranger.signed(t, joiningURI, client, time.Hour), false, codes.PermissionDenied, lets},
		"another identity":        {ca.signed(t, &url.URL{Scheme: "spiffe", Host: "pushrelay", Path: "/agent/b"}, client, time.Hour), false, codes.PermissionDenied, lets},
		"a name that none can be": {ca.signed(t, mtls.JoiningURI("B/x"), client, time.Hour), false, codes.PermissionDenied, lets},
		"an old one":              {ca.signed(t, joiningURI, client, -time.Second), false, codes.PermissionDenied, lets},
		"a server's":              {ca.signed(t, joiningURI, server, time.Hour), false, codes.PermissionDenied, lets},
		"a witness":               {ca.signed(t, joiningURI, client, time.Hour), true, codes.InvalidArgument, "this is to be a witness"},
		"a good one":              {ca.signed(t, joiningURI, client, time.Hour), false, codes.OK, ""},
	} {
		answer, err := knock(t, a.link, tt.shown, tt.witness)
		if status.Code(err) != tt.code || err != nil && !strings.Contains(err.Error(), tt.want) || err == nil && (answer.GetName() != "b" || len(answer.GetPeerCaKey()) == 0) {
			t.Errorf("%s: %v, %v", what, answer.GetName(), err)
		}
	}
	// What opens the door is no member to the link.
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{linkProtocol}, Certificates: []tls.Certificate{*ca.signed(t, joiningURI, client, time.Hour)}}
	if said, err := dial(a.link, config); err == nil {
		t.Errorf("it is let in at the link: %q", said)
	}
}

// signed makes a certificate of a key of its own.
func (ca peerCA) signed(t *testing.T, identity *url.URL, usage x509.ExtKeyUsage, life time.Duration) *tls.Certificate {
	t.Helper()
	key := newECKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(8), URIs: []*url.URL{identity}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// knock asks for membership without a token.
func knock(t *testing.T, address string, shown *tls.Certificate, witness bool) (answer *relayv1.JoinClusterResponse, err error) {
	t.Helper()
	atDoor(t, address, shown, func(ctx context.Context, door relayv1.MembershipServiceClient) {
		answer, err = door.JoinCluster(ctx, joinRequest(t, witness))
	})
	return answer, err
}

// joinRequest is that of a relay b, or of a witness.
func joinRequest(t *testing.T, witness bool) *relayv1.JoinClusterRequest {
	t.Helper()
	return &relayv1.JoinClusterRequest{
		CertificateRequest: certificateRequest(t), PeerAddress: "b.example:1", LinkAddress: "b.example:2", WebAddress: "b.example:3", Witness: witness,
	}
}

// atDoor asks a member something as somebody who is none, and shows a certificate, nil for none.
func atDoor(t *testing.T, address string, shown *tls.Certificate, ask func(context.Context, relayv1.MembershipServiceClient)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{membership.JoinProtocol}}
	if shown != nil {
		config.Certificates = []tls.Certificate{*shown}
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cc, err := relayconn.NewClient(conn, conn.(*tls.Conn).ConnectionState(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ask(ctx, relayv1.NewMembershipServiceClient(cc))
}

// TestGivenAuthority: what cannot be an authority of members is refused before anything is made.
func TestGivenAuthority(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good, key := newPeerCA(t, newECKey(t), nil), newECKey(t)
	pkcs8, err := mtls.EncodePrivateKey(good.key)
	if err != nil {
		t.Fatal(err)
	}
	crt := mtls.EncodeCertificates(good.cert.Raw)
	for what, tt := range map[string]struct{ dir, want string }{
		"as Helm makes it": {good.dir, ""},
		"PKCS #8":          {secretDir(t, map[string][]byte{"tls.crt": crt, "tls.key": pkcs8}), ""},
		"nothing":          {t.TempDir(), "tls.crt"},
		"no key":           {secretDir(t, map[string][]byte{"tls.crt": crt}), "tls.key, its key, is missing"},
		"another key":      {secretDir(t, map[string][]byte{"tls.crt": crt, "tls.key": encodeKey(t, key)}), "is not the key of"},
		"RSA":              {newPeerCA(t, rsaKey, nil).dir, "none on the curve P-256"},
		"no authority":     {newPeerCA(t, key, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }).dir, "is not the certificate of an authority"},
		"an old one": {newPeerCA(t, key, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}).dir, "nobody would take what it signs"},
		"for servers": {newPeerCA(t, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }).dir, "nobody would take what it signs"},
	} {
		dataDir := t.TempDir()
		_, err := membership.Found(membership.Founding{DataDir: dataDir, Name: "a", Addresses: addresses(t), PeerCADir: tt.dir, Release: "v1"})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
		if _, statErr := os.Stat(filepath.Join(dataDir, "cluster")); (statErr == nil) != (err == nil) {
			t.Errorf("%s: %v, and then %v", what, err, statErr)
		}
	}
	j := good.joiningBy(t, "w", address(t))
	j.Witness = true
	refusedJoin(t, "a witness", j, "a witness gets no key of the members' authority")
	refusedJoin(t, "no member", good.joiningBy(t, "b"), "--member: 0 relay addresses")
	refusedJoin(t, "no name", good.joiningBy(t, "", address(t)), "member name is empty")
}
