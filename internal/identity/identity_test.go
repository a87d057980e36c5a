package identity_test

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/datadir"
	"pushrelay/internal/enrol"
	"pushrelay/internal/enroltest"
	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/identity"
	"pushrelay/internal/mtls"
)

const month = 30 * 24 * time.Hour

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// first returns a certificate of a new key, checked.
func first(t *testing.T, ca *enroltest.Authority, name string, life time.Duration) *identity.Certificate {
	t.Helper()
	key, template := newKey(t), enroltest.Agent(name, life)
	template.NotBefore = template.NotBefore.Add(-time.Hour) // older than what is issued later in the test
	checked, err := identity.CheckFirst(ca.Issue(template, key.Public()), key, name, ca.Pin())
	if err != nil {
		t.Fatal(err)
	}
	return checked
}

func put(t *testing.T, s identity.Store, c *identity.Certificate, relays ...string) *identity.Identity {
	t.Helper()
	id, err := s.Put(c, relays, "test")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func load(t *testing.T, s identity.Store) []*identity.Identity {
	t.Helper()
	found, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range found {
		if m, err := mtls.Load(mtls.Agent, id.Files()); err != nil || len(m.Warnings()) > 0 || !m.Leaf().Equal(id.Certificate) {
			t.Fatalf("an identity is not whole: %v, %q", err, m.Warnings())
		}
	}
	return found
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestPut: an identity is made, renewed, enrolled again with further relays, and is in one place.
func TestPut(t *testing.T) {
	ca, s := enroltest.NewAuthority(t, "CA"), identity.In(t.TempDir())
	if found := load(t, s); len(found) > 0 {
		t.Fatalf("Load() of nothing = %v", found)
	}
	id := put(t, s, first(t, ca, "site-a", month), "a:1", "b:1")
	again := put(t, s, first(t, ca, "site-a", month), "c:1", "a:1")
	if !slices.Equal(again.Relays, []string{"c:1", "a:1", "b:1"}) || again.Dir() != id.Dir() || again.Certificate.Equal(id.Certificate) {
		t.Errorf("enrolled again: %+v", again)
	}
	key := newKey(t)
	next, err := again.CheckNext(ca.Issue(enroltest.Agent("site-a", month), key.Public()), key)
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := again.Renew(next)
	if err != nil || !renewed.Certificate.Equal(next.Leaf) || !slices.Equal(renewed.Relays, again.Relays) {
		t.Errorf("Renew() = %v, %v", renewed, err)
	}
	found := load(t, s)
	if len(found) != 1 || !found[0].Certificate.Equal(next.Leaf) || found[0].Authority != ca.Pin() {
		t.Errorf("Load() = %v", found)
	}
	if identity.ByAddress(found, "b:1") != found[0] || identity.ByAddress(found, "d:1") != nil || identity.ByAuthority(found, enrol.PinOf(nil)) != nil {
		t.Error("an address or an authority is found wrong")
	}
}

// TestSeveralAuthorities: an address belongs to the authority that it was enrolled at last, and an identity goes with its last address.
func TestSeveralAuthorities(t *testing.T) {
	old, other, s := enroltest.NewAuthority(t, "old"), enroltest.NewAuthority(t, "other"), identity.In(t.TempDir())
	put(t, s, first(t, old, "site-a", month), "a:1", "b:1")
	put(t, s, first(t, other, "site-a", month), "a:1")
	found := load(t, s)
	if len(found) != 2 || identity.ByAddress(found, "a:1") != identity.ByAuthority(found, other.Pin()) || identity.ByAddress(found, "b:1") != identity.ByAuthority(found, old.Pin()) {
		t.Fatalf("after one address has moved: %+v", found)
	}
	put(t, s, first(t, other, "site-a", month), "b:1")
	if found = load(t, s); len(found) != 1 || found[0].Authority != other.Pin() || len(names(t, s.Dir())) != 1 {
		t.Errorf("after both have moved: %+v, %q", found, names(t, s.Dir()))
	}
	if _, err := s.Put(first(t, old, "site-b", month), []string{"c:1"}, ""); err == nil || !strings.Contains(err.Error(), "a data dir of its own") {
		t.Errorf("another agent's identity: %v", err)
	}
}

// TestEndsAtEachStep: whenever the agent ends, or its disk fails, there is the earlier identity or the new one, whole, and the same again comes to a good end.
func TestEndsAtEachStep(t *testing.T) {
	ca, other := enroltest.NewAuthority(t, "CA"), enroltest.NewAuthority(t, "other")
	token := enrol.NewToken([]string{"a:1"}, ca.Pin())
	for _, fails := range []bool{false, true} {
		for name, before := range map[string]func(t *testing.T, s identity.Store){
			"first":        func(*testing.T, identity.Store) {},
			"again":        func(t *testing.T, s identity.Store) { put(t, s, first(t, ca, "site-a", month), "a:1") },
			"another CA":   func(t *testing.T, s identity.Store) { put(t, s, first(t, other, "site-a", month), "b:1") },
			"taken over":   func(t *testing.T, s identity.Store) { put(t, s, first(t, other, "site-a", month), "a:1") },
			"part of them": func(t *testing.T, s identity.Store) { put(t, s, first(t, other, "site-a", month), "a:1", "b:1") },
		} {
			changes := 0
			for ; ; changes++ {
				s := identity.In(t.TempDir())
				before(t, s)
				earlier := load(t, s)
				ending, ended := s.Ending(changes, fails)
				err := enrolOnce(ending, ca, &token)
				if !ended() {
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					break
				}
				found := load(t, s)
				mine := identity.ByAuthority(found, ca.Pin())
				if len(earlier) > 0 && len(found) == 0 {
					t.Fatalf("%s, after %d changes: the earlier identity is lost", name, changes)
				}
				if mine != nil && !slices.Equal(mine.Relays, []string{"a:1"}) {
					t.Fatalf("%s, after %d changes: %+v", name, changes, mine)
				}
				if err := enrolOnce(s, ca, &token); err != nil {
					t.Fatalf("%s, the same again after %d changes: %v", name, changes, err)
				}
				found = load(t, s)
				if mine = identity.ByAuthority(found, ca.Pin()); mine == nil || identity.ByAddress(found, "a:1") != mine {
					t.Fatalf("%s, after the same again: %+v", name, found)
				}
				for _, left := range names(t, s.Dir()) {
					if len(left) != 64 {
						t.Errorf("%s, after %d changes: %q is left", name, changes, left)
					}
				}
			}
			if changes < 4 {
				t.Errorf("%s: %d changes are few", name, changes)
			}
		}
	}
}

// enrolOnce exchanges a token, as the agent does.
func enrolOnce(s identity.Store, ca *enroltest.Authority, token *enrol.Token) error {
	key, err := s.PendingKey(token.ID)
	if err != nil {
		return err
	}
	checked, err := identity.CheckFirst(ca.Issue(enroltest.Agent("site-a", month), key.Public()), key, "", token.CA)
	if err != nil {
		return err
	}
	if _, err := s.Put(checked, token.Addresses, ""); err != nil {
		return err
	}
	return s.DropPending(token.ID)
}

// TestRenewalEndsAtEachStep: the pair is the earlier one or the new one.
func TestRenewalEndsAtEachStep(t *testing.T) {
	ca, next := enroltest.NewAuthority(t, "CA"), enroltest.NewAuthority(t, "next")
	for _, fails := range []bool{false, true} {
		for changes := 0; ; changes++ {
			s := identity.In(t.TempDir())
			earlier := put(t, s, first(t, ca, "site-a", month), "a:1")
			ending, ended := s.Ending(changes, fails)
			found, err := ending.Load()
			if err != nil {
				t.Fatal(err)
			}
			key := newKey(t)
			issued := ca.Issue(enroltest.Agent("site-a", month), key.Public())
			issued.Authorities = append(issued.Authorities, next.Certificate.Raw) // a change of the authority begins
			checked, err := found[0].CheckNext(issued, key)
			if err != nil {
				t.Fatal(err)
			}
			_, err = found[0].Renew(checked)
			now := load(t, s)[0]
			if !ended() {
				if err != nil || !now.Certificate.Equal(checked.Leaf) || !now.Trusts(next.Pin()) {
					t.Fatalf("Renew() = %v, and then %+v", err, now)
				}
				break
			}
			if !errors.Is(err, identity.ErrEnded) || !now.Certificate.Equal(earlier.Certificate) && !now.Certificate.Equal(checked.Leaf) {
				t.Fatalf("after %d changes: %v, %+v", changes, err, now)
			}
			if _, err := now.Renew(checked); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestPendingKeys: the same until it is dropped, or its certificate is in place.
func TestPendingKeys(t *testing.T) {
	ca, s := enroltest.NewAuthority(t, "CA"), identity.In(t.TempDir())
	token := enrol.NewToken([]string{"a:1"}, ca.Pin())
	pending := func() crypto.Signer {
		t.Helper()
		key, err := s.PendingKey(token.ID)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key := pending()
	same := func(other crypto.Signer) bool {
		return key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(other.Public())
	}
	if !same(pending()) {
		t.Error("the key is another one the second time")
	}
	checked, err := identity.CheckFirst(ca.Issue(enroltest.Agent("site-a", month), key.Public()), key, "", ca.Pin())
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, checked, "a:1") // and the agent ends here
	if load(t, s); len(names(t, s.Dir())) != 1 {
		t.Errorf("the store has %q", names(t, s.Dir()))
	}
	if same(pending()) {
		t.Error("the key of an enrolment that is over is used again")
	}
	if err := errors.Join(s.DropPending(token.ID), s.DropPending(token.ID)); err != nil || len(names(t, s.Dir())) != 1 {
		t.Errorf("DropPending() = %v, %q", err, names(t, s.Dir()))
	}
}

// TestDamagedIdentities: each is one line that names the file.
func TestDamagedIdentities(t *testing.T) {
	ca := enroltest.NewAuthority(t, "CA")
	for name, tt := range map[string]struct{ file, content, want string }{
		"no certificate":   {"agent.pem", "", "agent.pem: reading certificate: no certificate"},
		"no CA":            {"ca.crt", "x", "ca.crt: no certificate"},
		"no JSON":          {"relays.json", "x", "relays.json: invalid character"},
		"no version":       {"relays.json", "{}", "does not say its version"},
		"no address":       {"relays.json", `{"version":1,"relays":["a b:1"]}`, `"a b:1" is not host:port`},
		"twice":            {"relays.json", `{"version":1,"relays":["a:1","a:1"]}`, "twice"},
		"too many":         {"relays.json", `{"version":1,"relays":["a:1"` + strings.Repeat(`,"a:1"`, identity.MaxRelays) + `]}`, "33 relays"},
		"too large":        {"relays.json", strings.Repeat(" ", 1<<20+1), "larger than"},
		"of a new release": {"relays.json", `{"version":2,"release":"9.9","relays":7}`, "was written by a newer release, 9.9"},
	} {
		t.Run(name, func(t *testing.T) {
			s := identity.In(t.TempDir())
			id := put(t, s, first(t, ca, "site-a", month), "a:1")
			if err := os.WriteFile(filepath.Join(id.Dir(), tt.file), []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.Load()
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), id.Dir()) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Load() = %v, want %q and the directory", err, tt.want)
			}
			if newer, ok := errors.AsType[*datadir.NewerError](err); ok != strings.Contains(name, "release") {
				t.Errorf("Load() = %v", newer)
			}
		})
	}
}

// TestFormats: the file of relays is written as releases of its version read it.
func TestFormats(t *testing.T) {
	s := identity.In(t.TempDir())
	id := put(t, s, first(t, enroltest.NewAuthority(t, "CA"), "site-a", month), "a:1", "[::1]:9443")
	got, err := os.ReadFile(filepath.Join(id.Dir(), "relays.json"))
	const want = "{\n  \"version\": 1,\n  \"release\": \"test\",\n  \"relays\": [\n    \"a:1\",\n    \"[::1]:9443\"\n  ]\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("it is %s, %v, want %s", got, err, want)
	}
}

// TestTwoAgentsInOneDataDir is an error that names both.
func TestTwoAgentsInOneDataDir(t *testing.T) {
	ca, other := enroltest.NewAuthority(t, "CA"), enroltest.NewAuthority(t, "other")
	one, two := identity.In(t.TempDir()), identity.In(t.TempDir())
	put(t, one, first(t, ca, "site-a", month), "a:1")
	id := put(t, two, first(t, other, "site-b", month), "b:1")
	if err := os.Rename(id.Dir(), filepath.Join(one.Dir(), other.Pin().String())); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Load(); err == nil || !strings.Contains(err.Error(), `"site-a"`) || !strings.Contains(err.Error(), `"site-b"`) {
		t.Errorf("Load() = %v", err)
	}
}

// TestCheckNext: what would make the agent another one, or have it believe strangers only, is refused.
func TestCheckNext(t *testing.T) {
	ca, other, s := enroltest.NewAuthority(t, "CA"), enroltest.NewAuthority(t, "other"), identity.In(t.TempDir())
	id := put(t, s, first(t, ca, "site-a", month), "a:1")
	key := newKey(t)
	good := func() *relayv1.IssuedCertificate { return ca.Issue(enroltest.Agent("site-a", month), key.Public()) }
	for name, tt := range map[string]struct {
		issued *relayv1.IssuedCertificate
		want   string
	}{
		"good":              {good(), ""},
		"another agent":     {ca.Issue(enroltest.Agent("site-b", month), key.Public()), "agent/site-b"},
		"another authority": {other.Issue(enroltest.Agent("site-a", month), key.Public()), "none of the CAs"},
		"a relay":           {&relayv1.IssuedCertificate{Chain: [][]byte{ca.RelayPair("a").Leaf.Raw}, Authorities: good().GetAuthorities()}, "another key"},
		"ended":             {ca.Issue(enroltest.Agent("site-a", -time.Hour), key.Public()), "check both clocks"},
	} {
		_, err := id.CheckNext(tt.issued, key)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: CheckNext() = %v, want %q", name, err, tt.want)
		}
		if _, clock := errors.AsType[*identity.ClockError](err); clock != (name == "ended") {
			t.Errorf("%s: CheckNext() = %v", name, err)
		}
	}
}

// FuzzRelays: what is taken is within bounds.
func FuzzRelays(f *testing.F) {
	f.Add([]byte(`{"version":1,"release":"1.0","relays":["a:1","[::1]:9443"]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		relays, err := identity.DecodeRelays(text)
		if err != nil {
			return
		}
		if len(relays) > identity.MaxRelays {
			t.Errorf("%d relays", len(relays))
		}
		for i, address := range relays {
			if err := enrol.CheckAddresses(relays[i : i+1]); err != nil || slices.Contains(relays[:i], address) {
				t.Errorf("relay %q: %v", address, err)
			}
		}
	})
}

// FuzzIssued: whatever a relay sends for a key, what is taken is for that key, of an agent, and of the authority that was asked.
func FuzzIssued(f *testing.F) {
	ca := enroltest.NewAuthority(f, "CA")
	key, err := identity.NewKey()
	if err != nil {
		f.Fatal(err)
	}
	good := ca.Issue(enroltest.Agent("site-a", month), key.Public())
	f.Add(good.GetChain()[0], good.GetAuthorities()[0])
	f.Add(ca.RelayPair("a").Leaf.Raw, good.GetAuthorities()[0])
	f.Add([]byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, leaf, authority []byte) {
		c, err := identity.CheckFirst(&relayv1.IssuedCertificate{Chain: [][]byte{leaf}, Authorities: [][]byte{authority}}, key, "", ca.Pin())
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has two lines: %q", err)
			}
			return
		}
		if enrol.PinOf(authority) != ca.Pin() || mtls.CheckAgentName(c.Agent.Agent) != nil || c.Leaf.CheckSignatureFrom(ca.Certificate) != nil {
			t.Errorf("it takes %s of %q", c.Agent, c.Leaf.Issuer)
		}
	})
}
