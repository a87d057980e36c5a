package enrolclient_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/enrol"
	"pushrelay/internal/enrol/enrolclient"
	"pushrelay/internal/enroltest"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
)

// join returns an enrolment of a new data dir.
func join(t *testing.T, token enrol.Token) *enrolclient.Join {
	t.Helper()
	return &enrolclient.Join{Client: enrolclient.New(enrolclient.Config{}), Store: identity.In(t.TempDir()), Token: &token}
}

// files returns the names of what is in the store.
func files(t *testing.T, s identity.Store) (names []string) {
	t.Helper()
	err := filepath.WalkDir(s.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, filepath.Base(path))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

func TestEnroll(t *testing.T) {
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
	address, _ := relay.Listen(t)
	j := join(t, relay.Token("site-a", address))
	id, err := j.Attempt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id.Agent.Agent != "site-a" || !slices.Equal(id.Relays, []string{address}) || id.Authority != relay.Authority.Pin() {
		t.Errorf("the agent is %+v", id)
	}
	if m, err := mtls.Load(mtls.Agent, id.Files()); err != nil || len(m.Warnings()) > 0 {
		t.Errorf("its files: %v, %q", err, m.Warnings())
	}
	if got := files(t, j.Store); !slices.Equal(got, []string{"agent.pem", "ca.crt", "relays.json"}) {
		t.Errorf("the store has %q", got)
	}
	if stat, err := os.Stat(id.Files().KeyFile); err != nil || stat.Mode() != 0o600 {
		t.Errorf("the key's mode is %v, %v", stat.Mode(), err)
	}
}

// TestLostAnswers: a token whose answer was lost gives the same certificate again, also after the agent has ended and begun.
func TestLostAnswers(t *testing.T) {
	relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
	relay.LosesAnswers = true
	address, _ := relay.Listen(t)
	j := join(t, relay.Token("site-a", address))
	_, err := j.Attempt(t.Context())
	if failed, ok := errors.AsType[*enrolclient.Error](err); !ok || !failed.Later {
		t.Fatalf("Attempt() = %v, want an error that says later", err)
	}
	relay.Change(func() { relay.LosesAnswers = false })
	again := *j
	id, err := again.Attempt(t.Context())
	if err != nil || len(relay.Issued()) != 1 || !id.Certificate.Equal(relay.Issued()[0]) {
		t.Errorf("Attempt() = %v, after %d certificates", err, len(relay.Issued()))
	}
}

// TestNames: the token's, the one that is asked for, and for tokens that leave it open another one. Only relays of an earlier release are asked twice.
func TestNames(t *testing.T) {
	for name, tt := range map[string]struct {
		prefix, name, otherwise string
		earlier                 bool // the relay is of a release that knows no fallback
		want                    string
		err                     string
		asked                   []string
	}{
		"the token's":                  {otherwise: "host", want: "site-a", asked: []string{""}},
		"asked for":                    {name: "site-a", want: "site-a", asked: []string{"site-a"}},
		"not the token's":              {name: "site-b", otherwise: "host", err: "not for this name", asked: []string{"site-b"}},
		"open":                         {prefix: "site-", otherwise: "site-host", want: "site-host", asked: []string{""}},
		"open, asked for":              {prefix: "site-", name: "site-7", otherwise: "site-host", want: "site-7", asked: []string{"site-7"}},
		"open, and the host's no":      {prefix: "site-", otherwise: "host", err: "not for this name", asked: []string{""}},
		"open, and no host's":          {prefix: "site-", err: "not for this name", asked: []string{""}},
		"earlier, the token's":         {earlier: true, otherwise: "host", want: "site-a", asked: []string{""}},
		"earlier, open":                {earlier: true, prefix: "site-", otherwise: "site-host", want: "site-host", asked: []string{"", "site-host"}},
		"earlier, open, asked for":     {earlier: true, prefix: "site-", name: "edge-7", otherwise: "site-host", err: "not for this name", asked: []string{"edge-7"}},
		"earlier, open, the host's no": {earlier: true, prefix: "site-", otherwise: "host", err: `and as "host"`, asked: []string{"", "host"}},
		"earlier, open, and no host's": {earlier: true, prefix: "site-", err: "not for this name", asked: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			relay := enroltest.NewRelay(enroltest.NewAuthority(t, "CA"), "127.0.0.1")
			relay.Prefix, relay.Earlier = tt.prefix, tt.earlier
			address, _ := relay.Listen(t)
			j := join(t, relay.Token("site-a", address))
			j.Name, j.Otherwise = tt.name, tt.otherwise
			id, err := j.Attempt(t.Context())
			if asked := relay.Asked(); !slices.Equal(asked, tt.asked) {
				t.Errorf("the relay was asked for %q, want %q", asked, tt.asked)
			}
			if tt.err != "" {
				failed, ok := errors.AsType[*enrolclient.Error](err)
				if !ok || !failed.Final() || failed.Later || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("Attempt() = %v, want a final error with %q", err, tt.err)
				}
				if left := files(t, j.Store); len(left) > 0 {
					t.Errorf("the store has %q", left)
				}
				return
			}
			if err != nil || id.Agent.Agent != tt.want {
				t.Errorf("Attempt() = %v, %v, want %s", id, err, tt.want)
			}
		})
	}
}

// TestRelaysThatAreNotBelieved: each is one line that says what a person can do, and none is told the token.
func TestRelaysThatAreNotBelieved(t *testing.T) {
	right := enroltest.NewAuthority(t, "right")
	for name, tt := range map[string]struct {
		change func(r *enroltest.Relay)
		want   []string
	}{
		"another authority": {func(r *enroltest.Relay) { r.Authority = enroltest.NewAuthority(t, "wrong") }, []string{"Somebody may be in between", "relay-server agents token", right.Pin().String()}},
		"another relay":     {func(r *enroltest.Relay) { r.Pair = enroltest.NewAuthority(t, "wrong").RelayPair("127.0.0.1") }, []string{"not in the CA file"}},
		"no authority":      {func(r *enroltest.Relay) { r.Shown = false }, []string{"shows no authority"}},
		"other names":       {func(r *enroltest.Relay) { r.Pair = r.Authority.RelayPair("relay.example.org") }, []string{"other names"}},
		"an agent": {func(r *enroltest.Relay) {
			leaf := r.Authority.Sign(enroltest.Agent("a", time.Hour), r.Pair.Leaf.PublicKey)
			r.Pair.Certificate, r.Pair.Leaf = [][]byte{leaf.Raw}, leaf
		}, []string{`certificate of agent "a"`}},
		"an earlier release": {func(r *enroltest.Relay) { r.Protocols = []string{"h2"} }, []string{"knows no join tokens: upgrade the relay"}},
		"no protocol at all": {func(r *enroltest.Relay) { r.Protocols = nil }, []string{"knows no join tokens: upgrade the relay"}},
	} {
		t.Run(name, func(t *testing.T) {
			relay := enroltest.NewRelay(right, "127.0.0.1")
			address, _ := relay.Listen(t)
			j := join(t, relay.Token("site-a", address))
			relay.Change(func() { tt.change(relay) })
			_, err := j.Attempt(t.Context())
			failed, ok := errors.AsType[*enrolclient.Error](err)
			if !ok || failed.Later || failed.Final() || strings.Contains(err.Error(), "\n") {
				t.Fatalf("Attempt() = %v, want an error of one line that is neither final nor for later", err)
			}
			for _, want := range append(tt.want, "relay "+address) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Attempt() = %v, want %q in it", err, want)
				}
			}
			if asked := relay.Asked(); len(asked) > 0 {
				t.Error("the relay was told the token")
			}
		})
	}
}

// TestOrderOfRelays: the next one is asked if one cannot be reached, cannot sign, or does not know the token; no other refusal is.
func TestOrderOfRelays(t *testing.T) {
	ca := enroltest.NewAuthority(t, "CA")
	refusing := func(reason enrol.Reason) *enroltest.Relay {
		r := enroltest.NewRelay(ca, "127.0.0.1")
		r.Refuses = &enrol.Refusal{Reason: reason, Message: "no\nreally\x1b[2J"}
		return r
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for name, tt := range map[string]struct {
		first  *enroltest.Relay // nil: it cannot be reached
		asked  bool             // whether the second is
		second *enroltest.Relay // nil: a good one
		final  enrol.Reason
		later  bool
	}{
		"unreachable":             {nil, true, nil, "", false},
		"cannot sign":             {refusing(enrol.ReasonCannotSign), true, nil, "", false},
		"later":                   {refusing(enrol.ReasonLater), true, nil, "", false},
		"token of the second":     {refusing(enrol.ReasonToken), true, nil, "", false},
		"name":                    {refusing(enrol.ReasonName), false, nil, enrol.ReasonName, false},
		"request":                 {refusing(enrol.ReasonRequest), false, nil, enrol.ReasonRequest, false},
		"nobody knows the token":  {refusing(enrol.ReasonToken), true, refusing(enrol.ReasonToken), enrol.ReasonToken, false},
		"who made it is away":     {nil, true, refusing(enrol.ReasonToken), "", true},
		"who made it is busy":     {refusing(enrol.ReasonLater), true, refusing(enrol.ReasonToken), "", true},
		"nobody can sign":         {refusing(enrol.ReasonCannotSign), true, refusing(enrol.ReasonCannotSign), enrol.ReasonCannotSign, false},
		"one cannot, one refuses": {refusing(enrol.ReasonCannotSign), true, refusing(enrol.ReasonToken), enrol.ReasonToken, false},
	} {
		t.Run(name, func(t *testing.T) {
			second := tt.second
			if second == nil {
				second = enroltest.NewRelay(ca, "127.0.0.1")
			}
			addresses := []string{gone.Addr().String(), ""}
			if tt.first != nil {
				addresses[0], _ = tt.first.Listen(t)
			}
			addresses[1], _ = second.Listen(t)
			j := join(t, second.Token("site-a", addresses...))
			id, err := j.Attempt(t.Context())
			if got := len(second.Asked()) > 0; got != tt.asked {
				t.Errorf("the second relay is asked: %v", got)
			}
			if tt.final == "" && !tt.later {
				if err != nil || !slices.Equal(id.Relays, addresses) {
					t.Errorf("Attempt() = %v, %v", id, err)
				}
				return
			}
			failed, ok := errors.AsType[*enrolclient.Error](err)
			if !ok || failed.Reason != tt.final || failed.Later != tt.later || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("Attempt() = %q, %+v", err, failed)
			}
			if left := files(t, j.Store); (len(left) == 0) != failed.Final() {
				t.Errorf("the store has %q", left)
			}
		})
	}
}

// TestSilentRelayIsGivenUp: an attempt has an end, wherever the relay falls silent.
func TestSilentRelayIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := enrol.NewToken([]string{"relay.test:9443", "relay.test:9444"}, enrol.PinOf([]byte("CA")))
		client := enrolclient.New(enrolclient.Config{Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { // ends with the connection
				buf := make([]byte, 1<<10)
				for {
					if _, err := far.Read(buf); err != nil {
						return
					}
				}
			}()
			return near, nil
		}})
		begun := time.Now()
		_, err := client.Enroll(t.Context(), &token, enrolclient.Names{}, nil)
		if failed, ok := errors.AsType[*enrolclient.Error](err); !ok || !failed.Later || time.Since(begun) > 2*enrol.AttemptTimeout || !strings.Contains(err.Error(), "no answer within 15s") {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// TestIssuedIsChecked: what a relay issues that is of no use is not written, and the token can be tried again.
func TestIssuedIsChecked(t *testing.T) {
	ca, other := enroltest.NewAuthority(t, "CA"), enroltest.NewAuthority(t, "other")
	for name, tt := range map[string]struct {
		makes func(*relayv1.IssuedCertificate)
		want  string
	}{
		"nothing":           {func(i *relayv1.IssuedCertificate) { i.Reset() }, "0 certificates"},
		"no authority":      {func(i *relayv1.IssuedCertificate) { i.Authorities = nil }, "authorities has 0"},
		"another authority": {func(i *relayv1.IssuedCertificate) { i.Authorities = [][]byte{other.Certificate.Raw} }, "unknown authority"},
		"too many": {func(i *relayv1.IssuedCertificate) {
			i.Authorities = slices.Repeat(i.GetAuthorities(), enrol.MaxAuthorities+1)
		}, "want 1 to 16"},
		"garbage":    {func(i *relayv1.IssuedCertificate) { i.Chain = [][]byte{[]byte("x")} }, "parsing its chain"},
		"no CA":      {func(i *relayv1.IssuedCertificate) { i.Authorities = append(i.Authorities, i.GetChain()[0]) }, "no CA"},
		"other name": {nil, `of agent "site-b"`},
		"other key": {func(i *relayv1.IssuedCertificate) {
			i.Chain = [][]byte{ca.Sign(enroltest.Agent("site-a", time.Hour), ca.Certificate.PublicKey).Raw}
		}, "another key"},
	} {
		t.Run(name, func(t *testing.T) {
			relay := enroltest.NewRelay(ca, "127.0.0.1")
			relay.Makes = tt.makes
			address, _ := relay.Listen(t)
			j := join(t, relay.Token("site-a", address))
			if tt.makes == nil {
				relay.Makes = func(i *relayv1.IssuedCertificate) {
					// For the right key, of another agent.
					i.Chain = [][]byte{ca.Sign(enroltest.Agent("site-b", time.Hour), relay.LastKey()).Raw}
				}
				j.Name = "site-a"
			}
			if _, err := j.Attempt(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Attempt() = %v, want %q in it", err, tt.want)
			}
			if got := files(t, j.Store); len(got) != 1 || !strings.HasPrefix(got[0], "pending-") {
				t.Errorf("the store has %q", got)
			}
		})
	}
}
