package membership_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"pushrelay/internal/authority"
	"pushrelay/internal/cluster/engine"
	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/enrol"
	relayv1 "pushrelay/internal/gen/relay/v1"
	storagev1 "pushrelay/internal/gen/storage/v1"
	"pushrelay/internal/mtls"
	"pushrelay/internal/relayapi"
)

// refusedJoin joins, and wants to be refused in these words. Nothing may be left that makes a member.
func refusedJoin(t *testing.T, what string, j membership.Joining, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := membership.Join(ctx, j); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
	if ctx.Err() != nil {
		t.Errorf("%s: it asks again and again", what)
	}
	if _, err := os.Stat(filepath.Join(j.DataDir, "cluster", "peer-ca.key")); err == nil {
		t.Errorf("%s: it has the key of the authority", what)
	}
}

const notGood = "the join token is unknown, used or ended"

// TestTokens: one member by one token, in its time, and the same words for all that is not good.
func TestTokens(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	text := a.token(t, "b", false)
	token, err := enrol.ParseTokenOf(enrol.ForMembers, text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enrol.ParseToken(text); err == nil || !strings.Contains(err.Error(), "relay-server cluster join takes it") {
		t.Errorf("for an agent: %v", err)
	}
	changed := func(change func(*enrol.Token)) string {
		other := token
		change(&other)
		return other.TextOf(enrol.ForMembers)
	}
	refusedJoin(t, "no token", joining(t, "prc1_abc"), "the join token is not whole")
	refusedJoin(t, "unknown", joining(t, changed(func(o *enrol.Token) { o.ID[0]++ })), notGood)
	refusedJoin(t, "wrong secret", joining(t, changed(func(o *enrol.Token) { o.Secret[0]++ })), notGood)
	refusedJoin(t, "wrong pin", joining(t, changed(func(o *enrol.Token) { o.CA[0]++ })), "its authority has another fingerprint")
	refusedJoin(t, "no member there", joining(t, changed(func(o *enrol.Token) { o.Addresses = []string{address(t)} })), "dialling it")
	witness := joining(t, text)
	witness.Witness = true
	refusedJoin(t, "as a witness", witness, "the token is for a relay, and this is to be a witness")
	taken := joining(t, text)
	taken.Peer = a.dir.Member().Peer
	refusedJoin(t, "an address that is taken", taken, `member "a" has the same address`)
	full := joining(t, text)
	if err := os.WriteFile(filepath.Join(full.DataDir, "agents.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedJoin(t, "a data dir that is in use", full, `is not empty, it has "agents.json"`)

	// None of that has used it. The same key may ask again; another one may not.
	j := joining(t, text)
	join(t, j)
	key, err := os.ReadFile(filepath.Join(j.DataDir, "cluster", "member.pem"))
	if err != nil {
		t.Fatal(err)
	}
	refusedJoin(t, "used", joining(t, text), notGood)
	again := j
	again.DataDir = t.TempDir()
	if err := os.Mkdir(filepath.Join(again.DataDir, "cluster.joining"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, keyText, _ := strings.Cut(string(key), "-----END CERTIFICATE-----\n")
	if err := os.WriteFile(filepath.Join(again.DataDir, "cluster.joining", "member.key"), []byte(keyText), 0o600); err != nil {
		t.Fatal(err)
	}
	join(t, again)

	ended := a.token(t, "c", false)
	end(t, a, ended)
	refusedJoin(t, "ended", joining(t, ended), notGood)

	for _, c := range []struct {
		token relayapi.NewMemberToken
		want  string
	}{
		{relayapi.NewMemberToken{Name: "B", TTLSeconds: 900}, "member name"},
		{relayapi.NewMemberToken{Name: "a", TTLSeconds: 900}, `there is a member "a" already`},
		{relayapi.NewMemberToken{Name: "c", TTLSeconds: 9}, "want 1m0s to 24h"},
		{relayapi.NewMemberToken{Name: "c", TTLSeconds: 1 << 40}, "want 1m0s to 24h"},
	} {
		if _, err := a.office.Token(t.Context(), c.token); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.token, err, c.want)
		}
	}
}

// end makes a token one that has ended.
func end(t *testing.T, n *node, text string) {
	t.Helper()
	token, err := enrol.ParseTokenOf(enrol.ForMembers, text)
	if err != nil {
		t.Fatal(err)
	}
	key := "/pushrelay/tokens/" + token.ID.String()
	got, err := n.engine.Client().Get(t.Context(), key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if strings.Contains(string(got.Kvs[0].Value), string(token.Secret[:])) {
		t.Error("the secret itself is kept")
	}
	var m storagev1.ClusterToken
	if err := proto.Unmarshal(got.Kvs[0].Value, &m); err != nil {
		t.Fatal(err)
	}
	m.Ends = time.Now().Unix()
	value, err := proto.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.engine.Client().Put(t.Context(), key, string(value), clientv3.WithIgnoreLease()); err != nil {
		t.Fatal(err)
	}
}

// TestTakeOver: a second join of a name takes over the learner of the first that never started, which is none from then on. One that has started
// is not taken over.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	first := join(t, joining(t, a.token(t, "b", false)))
	s := a.until(t, "b is awaited", func(s relayapi.ClusterStatus) bool { return roleOf(s, "b") == relayapi.RoleAwaited })
	if len(s.Words) != 2 || !strings.HasPrefix(s.Words[1], "b was let in, and has not started") {
		t.Errorf("b is awaited: %q", s.Words)
	}
	refusedBusy(t, a)
	token := a.token(t, "b", false) // before there is a b that has started
	b := start(t, join(t, joining(t, a.token(t, "b", false))))
	a.until(t, "the second counts", func(s relayapi.ClusterStatus) bool {
		return roleOf(s, "b") == relayapi.RoleVoter && len(s.Members) == 2
	})
	if address, _ := a.members.Address("b"); address != b.link {
		t.Errorf("b is said to be at %s", address)
	}
	if _, err := tryStartWithin(t, first, 5*time.Second); err == nil {
		t.Error("the first starts as well")
	}
	refusedJoin(t, "one that has started", joining(t, token), `there is a member "b" already`)
}

// refusedBusy: while one is awaited, another one has to wait, and is told why.
func refusedBusy(t *testing.T, a *node) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	j := joining(t, a.token(t, "c", false))
	var told string
	j.Progress = func(words string) {
		told = words
		cancel()
	}
	if _, err := membership.Join(ctx, j); err == nil || !strings.Contains(told, "another new member is catching up") {
		t.Errorf("beside another one that joins: %v, %q", err, told)
	}
}

// tryStartWithin starts the etcd of a data dir alone.
func tryStartWithin(t *testing.T, dataDir string, d time.Duration) (*engine.Engine, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	e, err := engine.Start(ctx, open(t, dataDir).Engine())
	if err == nil {
		e.Close()
	}
	return e, err
}

// TestWitness: it gets no key that signs anything, counts, and has its certificate from others.
func TestWitness(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	text := a.token(t, "w", true)
	token, err := enrol.ParseTokenOf(enrol.ForMembers, text)
	if err != nil {
		t.Fatal(err)
	}
	atDoor(t, a.link, nil, func(ctx context.Context, door relayv1.MembershipServiceClient) {
		in := joinRequest(t, true)
		in.TokenId, in.TokenSecret = token.ID[:], token.Secret[:]
		answer, err := door.JoinCluster(ctx, in)
		if err != nil || len(answer.GetPeerCa()) == 0 || len(answer.GetPeerCaKey())+len(answer.GetAuthorityKey()) > 0 {
			t.Errorf("a witness is given keys of %d and %d bytes, %v", len(answer.GetPeerCaKey()), len(answer.GetAuthorityKey()), err)
		}
	})
	j := joining(t, a.token(t, "w", true)) // it takes over that learner
	j.Witness = true
	dataDir := join(t, j)
	for _, file := range []string{"cluster/peer-ca.key", "authority"} {
		if _, err := os.Stat(filepath.Join(dataDir, file)); err == nil {
			t.Errorf("a witness has %s", file)
		}
	}
	w := start(t, dataDir)
	a.until(t, "the witness counts", func(s relayapi.ClusterStatus) bool { return roleOf(s, "w") == relayapi.RoleVoter })
	waitFor(t, "w is seen", func() bool { return a.members.IsMember("w") })
	if address, is := a.members.Address("w"); is {
		t.Errorf("the witness is said to be a relay at %q", address)
	}
	if _, err := w.office.Token(t.Context(), relayapi.NewMemberToken{Name: "c", TTLSeconds: 900}); err == nil || !strings.Contains(err.Error(), "a witness makes no tokens") {
		t.Errorf("a token of a witness: %v", err)
	}
	if _, err := a.office.Leave(t.Context()); err == nil || !strings.Contains(err.Error(), "what would be left are witnesses") {
		t.Errorf("leaving a witness alone: %v", err)
	}
	request := certificateRequest(t)
	der, err := membership.Peers{Dir: w.dir}.Renew(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := x509.ParseCertificate(der); err != nil || cert.Subject.CommonName != "w" || time.Until(cert.NotAfter) < 300*24*time.Hour {
		t.Errorf("renewed: %+v, %v", cert, err)
	}
	remove(t, a, "w")
	if _, err := (membership.Peers{Dir: w.dir}).Renew(t.Context(), request); err == nil || !strings.Contains(err.Error(), `member "w" was removed`) {
		t.Errorf("one that was removed has its certificate renewed: %v", err)
	}
	w.stop()
	if _, err := w.dir.ForceBegin(); err == nil || !strings.Contains(err.Error(), "is a witness") {
		t.Errorf("force-new of a witness: %v", err)
	}
}

func certificateRequest(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// TestWhoIsLetIn: the link and the peer port take members of this cluster, and nobody else: no agent, no relay of the agents' authority, no member of
// another cluster, nobody without a certificate.
func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	a := start(t, found(t, "a"))
	other := open(t, found(t, "a"))
	stranger, err := membership.NewCertificates(membership.CertificatesConfig{Dir: other})
	if err != nil {
		t.Fatal(err)
	}
	if said, err := dial(a.link, a.certs.ClientTLS("a")); err != nil || said != "hello a" {
		t.Errorf("itself: %q, %v", said, err)
	}
	if _, err := dial(a.link, a.certs.ClientTLS("b")); err == nil || !strings.Contains(err.Error(), `it is member "a", and not "b"`) {
		t.Errorf("another one than was dialled: %v", err)
	}
	ca, err := authority.Create(filepath.Join(t.TempDir(), "authority"), authority.Config{})
	if err != nil {
		t.Fatal(err)
	}
	agent, err := ca.IssueAgent("a")
	if err != nil {
		t.Fatal(err)
	}
	relay, err := ca.IssueRelay([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	unverified := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{InsecureSkipVerify: true, Certificates: certs}
	}
	for what, config := range map[string]*tls.Config{
		"nobody": unverified(), "an agent": unverified(pairOf(t, agent)), "a relay": unverified(pairOf(t, relay)), "a member of another cluster": withoutVerification(stranger.ClientTLS("")),
	} {
		for port, protocol := range map[string]string{a.link: linkProtocol, a.dir.Member().Peer: "h2"} {
			config := config.Clone()
			config.NextProtos = []string{protocol}
			if said, err := dial(port, config); err == nil {
				t.Errorf("%s is let in at %s: %q", what, port, said)
			}
		}
	}
	// And the other way round: a member does not take them for one.
	if _, err := dial(a.link, stranger.ClientTLS("")); err == nil {
		t.Error("a member of another cluster takes it for its own")
	}
}

// TestWhoIsAMember: for a member counts who has a certificate for it by the authority of this cluster: no other authority's, no other cluster's of the same one, and
// nothing that was signed for something else. Who asks at the door, where the handshake verifies nothing, gets no certificate by such a one (C17).
func TestWhoIsAMember(t *testing.T) {
	t.Parallel()
	ca, stranger := newPeerCA(t, newECKey(t), nil), newPeerCA(t, newECKey(t), nil)
	a := ca.began(t, "a")
	uri := func(cluster, name string) *url.URL { return mtls.MemberID{Cluster: cluster, Name: name}.URI() }
	own := a.dir.Member().Cluster
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for what, tt := range map[string]struct {
		shown *tls.Certificate
		code  codes.Code
		link  bool // whether it is let in there, where the list does not count yet
	}{
		"nothing":             {nil, codes.Unauthenticated, false},
		"another authority's": {stranger.signed(t, uri(own, "a"), client, time.Hour), codes.Unauthenticated, false},
		"another cluster's":   {ca.signed(t, uri("0123456789abcdef", "a"), client, time.Hour), codes.Unauthenticated, false},
		"for joining":         {ca.signed(t, mtls.JoiningURI("a"), client, time.Hour), codes.Unauthenticated, false},
		"a server's":          {ca.signed(t, uri(own, "a"), server, time.Hour), codes.Unauthenticated, false},
		"an old one":          {ca.signed(t, uri(own, "a"), client, -time.Second), codes.Unauthenticated, false},
		"of one that is gone": {ca.signed(t, uri(own, "gone"), client, time.Hour), codes.PermissionDenied, true},
		"a member's":          {ca.signed(t, uri(own, "a"), client, time.Hour), codes.OK, true},
	} {
		var err error
		atDoor(t, a.link, tt.shown, func(ctx context.Context, door relayv1.MembershipServiceClient) {
			_, err = door.RenewMember(ctx, &relayv1.RenewMemberRequest{CertificateRequest: certificateRequest(t)})
		})
		if status.Code(err) != tt.code {
			t.Errorf("%s: a new certificate is asked for, and the answer is %v, want %v", what, err, tt.code)
		}
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{linkProtocol}}
		if tt.shown != nil {
			config.Certificates = []tls.Certificate{*tt.shown}
		}
		if said, err := dial(a.link, config); (err == nil) != tt.link {
			t.Errorf("%s: at the link it hears %q, %v", what, said, err)
		}
	}
}

func pairOf(t *testing.T, issued authority.Issued) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(issued.CertPEM, issued.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func withoutVerification(config *tls.Config) *tls.Config {
	config.VerifyConnection = nil
	return config
}
