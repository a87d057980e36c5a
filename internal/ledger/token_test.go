package ledger_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/ledger"
)

// made counts the tokens of all tests.
var made atomic.Int64

func tokenID(n int) string { return fmt.Sprintf("%016x", n) }

// makeToken makes a token of one use and an hour, unless it says otherwise, and returns its id.
func makeToken(t testing.TB, l *ledger.Ledger, token ledger.Token) string {
	t.Helper()
	token.ID = tokenID(int(made.Add(1)))
	if token.Uses == 0 {
		token.Uses = 1
	}
	if token.End.IsZero() {
		token.End = token.At.Add(time.Hour)
	}
	if err := l.MakeToken(token); err != nil {
		t.Fatal(err)
	}
	return token.ID
}

// enrolled is a certificate of 30 days for a token; each serial number has a key of its own.
func enrolled(agent, serial, token string, at time.Time) ledger.Certificate {
	c := issued(agent, serial, ledger.ByToken, at)
	c.To, c.Token, c.Key = at.Add(30*day), token, fmt.Sprintf("%x", sha256.Sum256([]byte(serial)))
	return c
}

func renewed(agent, serial, parent string, at time.Time) ledger.Certificate {
	c := issued(agent, serial, ledger.ByRenewal, at)
	c.To, c.Parent = at.Add(30*day), parent
	return c
}

func wantToken(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, ledger.ErrToken) {
		t.Errorf("got %v, want that of a token that lets nobody in", err)
	}
}

func wantName(t testing.TB, err error, want string) {
	t.Helper()
	if name, ok := errors.AsType[*ledger.NameError](err); !ok || !strings.Contains(name.Reason, want) {
		t.Errorf("got %v, want an error about the name with %q", err, want)
	}
}

// TestTokensAreSpent: by the record of what was issued and by nothing else, over restarts. The same key may ask again.
func TestTokensAreSpent(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	token := makeToken(t, l, ledger.Token{Name: "site-a", At: begin, Uses: 2})
	wantName(t, l.Issue(enrolled("site-b", "b1", token, begin)), "not for site-b")
	l.BreakFile()
	if err := l.Issue(enrolled("site-a", "a1", token, begin)); err == nil {
		t.Fatal("Issue() on a broken file succeeded")
	}
	if known, _ := l.Token(token, begin); known.Used != 0 {
		t.Errorf("it was used %d times", known.Used)
	}
	issue(t, l, enrolled("site-a", "a1", token, begin))
	again := enrolled("site-a", "a2", token, begin.Add(time.Minute))
	again.Key = enrolled("site-a", "a1", token, begin).Key
	issue(t, l, again)
	l = reopen(t, dir, l)
	if known, found := l.Token(token, begin); !found || known.Used != 1 || known.Uses != 2 {
		t.Errorf("Token() = %+v, %v", known, found)
	}
	issue(t, l, enrolled("site-a", "a3", token, begin))
	wantToken(t, l.Issue(enrolled("site-a", "a4", token, begin)))
	again.Serial = "a5"
	issue(t, l, again)
	again.Serial, again.At = "a6", begin.Add(time.Hour)
	wantToken(t, l.Issue(again)) // it has ended
	wantToken(t, l.Issue(enrolled("site-a", "a7", tokenID(77), begin)))
}

// TestAgain: what a token's key got last under a name is remembered, over restarts and as long as the token is good, unless it is refused. A key is let in
// under one name by each use.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	token := makeToken(t, l, ledger.Token{Name: "site-", Prefix: true, At: begin, End: begin.Add(200 * day), Uses: 2})
	first := enrolled("site-a", "a1", token, begin)
	issue(t, l, first)
	other := enrolled("site-b", "b1", token, begin)
	other.Key = first.Key
	issue(t, l, other)
	none := enrolled("site-c", "c1", token, begin)
	none.Key = first.Key
	wantToken(t, l.Issue(none))
	second := enrolled("site-a", "a2", token, begin.Add(20*day))
	second.Key = first.Key
	issue(t, l, second)
	for i := range 600 { // so that the file is made smaller
		issue(t, l, renewed("site-z", fmt.Sprintf("f%x", i), "", begin.Add(-150*day)))
	}
	l = reopen(t, dir, l)
	if known, _ := l.Token(token, begin); known.Used != 2 {
		t.Errorf("the token was used %d times", known.Used)
	}
	for agent, want := range map[string]string{"site-a": "a2", "site-b": "b1", "site-c": ""} {
		if c, found := l.Again(token, first.Key, agent); found != (want != "") || c.Serial != want {
			t.Errorf("Again(%s) = %+v, %v", agent, c, found)
		}
	}
	if c, found := l.Again(token, none.Key, "site-z"); found {
		t.Errorf("Again() of another name = %+v", c)
	}
	revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a2", At: begin.Add(21 * day)})
	revoke(t, l, ledger.Revocation{Agent: "site-b", At: begin.Add(21 * day)})
	for _, agent := range []string{"site-a", "site-b"} {
		if c, found := l.Again(token, first.Key, agent); found {
			t.Errorf("Again(%s) of what is revoked = %+v", agent, c)
		}
	}
}

func TestTokensAreVoided(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	token, other := makeToken(t, l, ledger.Token{Name: "site-a", At: begin}), makeToken(t, l, ledger.Token{Name: "site-b", At: begin})
	if got, err := l.VoidToken(token, begin); err != nil || got.Name != "site-a" {
		t.Fatal(got, err)
	}
	_, err := l.VoidToken(token, begin)
	wantToken(t, err)
	revoke(t, l, ledger.Revocation{Agent: "site-b", At: begin})
	for range 2 {
		wantToken(t, l.Issue(enrolled("site-a", "a1", token, begin)))
		wantToken(t, l.Issue(enrolled("site-b", "b1", other, begin)))
		if left := l.Tokens(begin); len(left) != 0 {
			t.Errorf("Tokens() = %v", left)
		}
		l = reopen(t, dir, l)
	}
	if _, err := l.Allow("site-b", begin); err != nil {
		t.Fatal(err)
	}
	wantToken(t, l.Issue(enrolled("site-b", "b1", other, begin))) // what was voided stays so
}

// TestTokensForManyNames: an image may come in under a name that nobody has, and under no other.
func TestTokensForManyNames(t *testing.T) {
	l := open(t, t.TempDir())
	token := makeToken(t, l, ledger.Token{Name: "site-", Prefix: true, At: begin, Uses: 1000, End: begin.Add(1000 * day)})
	issue(t, l, enrolled("site-a", "a1", token, begin))
	for _, name := range []string{"site-", "other", "sit"} {
		if err := l.Issue(enrolled(name, "a2", token, begin)); err == nil {
			t.Errorf("it let %q in", name)
		}
	}
	wantName(t, l.Issue(enrolled("site-a", "a2", token, begin.Add(40*day))), "has a certificate already") // which can be renewed
	issue(t, l, enrolled("site-a", "a3", token, begin.Add(121*day)))
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin.Add(122 * day)})
	wantName(t, l.Issue(enrolled("site-a", "a4", token, begin.Add(300*day))), "is revoked")
	if reaching := l.Reaching("site-a", begin); len(reaching) != 1 || reaching[0].ID != token {
		t.Errorf("Reaching() = %v", reaching)
	}

	issue(t, l, enrolled("site-b", "b1", token, begin))
	revoke(t, l, ledger.Revocation{Agent: "site-b", Serial: "b1", At: begin})
	issue(t, l, enrolled("site-b", "b2", token, begin)) // nobody has a certificate of the name that is let in
	replacing := makeToken(t, l, ledger.Token{Name: "site-", Prefix: true, Replace: true, At: begin, Uses: 2})
	issue(t, l, enrolled("site-b", "b3", replacing, begin))
	wantName(t, l.Issue(enrolled("site-a", "a5", replacing, begin)), "is revoked")
}

// TestRenewalsDescend: a renewal is as good as what it was renewed from, and goes with it.
func TestRenewalsDescend(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
	issue(t, l, renewed("site-a", "a2", "a1", begin.Add(15*day)))
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin.Add(16 * day)})
	for _, parent := range []string{"a1", "a2", "ff"} {
		if err := l.Issue(renewed("site-a", "a3", parent, begin.Add(17*day))); err == nil {
			t.Errorf("what was revoked, %s, is renewed", parent)
		}
	}
	issue(t, l, enrolled("site-a", "b1", makeToken(t, l, ledger.Token{Name: "site-a", At: begin.Add(17 * day)}), begin.Add(17*day)))
	// Over years, of which the revocation, of a foreign certificate, stands.
	parent := "b1"
	for i := range 100 {
		serial := fmt.Sprintf("c%x", i+1)
		issue(t, l, renewed("site-a", serial, parent, begin.Add(time.Duration(32+15*i)*day)))
		parent = serial
		l = reopen(t, dir, l)
		wantRefused(t, l.State, "site-a", serial, false)
		wantRefused(t, l.State, "site-a", "a2", true)
	}

	issue(t, l, renewed("site-a", "d1", parent, begin.Add(2000*day))) // the thief's
	issue(t, l, renewed("site-a", "d2", "d1", begin.Add(2001*day)))
	issue(t, l, renewed("site-a", "e1", parent, begin.Add(2000*day))) // the owner's
	done, err := l.Revoke(ledger.Revocation{Agent: "site-a", Serial: "d1", At: begin.Add(2002 * day)})
	if err != nil || len(done) != 2 || done[1].Serial != "d2" {
		t.Errorf("Revoke() = %v, %v", done, err)
	}
	for serial, want := range map[string]bool{"d1": true, "d2": true, "e1": false} {
		wantRefused(t, l.State, "site-a", serial, want)
	}
	if err := l.Issue(renewed("site-a", "d3", "d2", begin.Add(2003*day))); err == nil {
		t.Error("what was revoked is renewed")
	}
}

// TestUsesAreRemembered: a file that is made smaller forgets no use of a token that still lets somebody in.
func TestUsesAreRemembered(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	token := makeToken(t, l, ledger.Token{Name: "fleet-", Prefix: true, At: begin, Uses: 300, End: begin.Add(400 * day)})
	for i := range 300 {
		issue(t, l, enrolled(fmt.Sprint("fleet-", i), fmt.Sprintf("%x", i+1), token, begin))
	}
	for i := range 1000 {
		issue(t, l, renewed("site-a", fmt.Sprintf("f%x", i), "", begin.Add(390*day+time.Duration(i)*time.Second)))
	}
	l = reopen(t, dir, l)
	wantToken(t, l.Issue(enrolled("fleet-new", "ffff", token, begin.Add(395*day))))
}

// TestEarlierFormat: a ledger without tokens is read, and has them with the next record.
func TestEarlierFormat(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	l.Close()
	file := filepath.Join(dir, "ledger.jsonl")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	earlier := ledger.Reseal([]byte(strings.Replace(string(raw), `"version":2`, `"version":1`, 1)))
	if err := os.WriteFile(file, earlier, 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	wantRefused(t, l.State, "site-a", "1", true)
	makeToken(t, l, ledger.Token{Name: "site-a", At: begin})
	l = reopen(t, dir, l)
	wantRefused(t, l.State, "site-a", "1", true)
	if len(l.Tokens(begin)) != 1 {
		t.Errorf("Tokens() = %v", l.Tokens(begin))
	}
	if raw, err = os.ReadFile(file); err != nil || !strings.HasPrefix(string(raw), `{"version":2`) {
		t.Errorf("the file begins %.20q, %v", raw, err)
	}
}

// TestIssueOnce: what the key of a token has got already is told in the place of another certificate, if it suits and is not refused.
func TestIssueOnce(t *testing.T) {
	l := open(t, t.TempDir())
	token := makeToken(t, l, ledger.Token{Name: "site-a", At: begin, Uses: 1})
	suits := func(ledger.Certificate) bool { return true }
	first, second := enrolled("site-a", "a1", token, begin), enrolled("site-a", "a2", token, begin)
	second.Key = first.Key
	if err := l.IssueOnce(first, suits); err != nil {
		t.Fatal(err)
	}
	if again, ok := errors.AsType[*ledger.AgainError](l.IssueOnce(second, suits)); !ok || again.Former.Serial != "a1" || l.Has("site-a", "a2") {
		t.Errorf("the same key again: %+v", again)
	}
	if err := l.IssueOnce(second, func(former ledger.Certificate) bool { return former.Serial != "a1" }); err != nil || !l.Has("site-a", "a2") {
		t.Errorf("when what it has does not suit: %v", err)
	}
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	third := enrolled("site-a", "a3", token, begin)
	third.Key = first.Key
	wantToken(t, l.IssueOnce(third, suits))
}

// TestWriteFile: what another keeper of the ledger had becomes the file of a data dir, in the place of what was there.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	other := open(t, t.TempDir())
	revoke(t, other, ledger.Revocation{Agent: "site-b", At: begin})
	if _, locked := errors.AsType[*ledger.LockedError](ledger.WriteFile(ledger.Config{Dir: dir}, other.State)); !locked {
		t.Error("a file was written that is open")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ledger.WriteFile(ledger.Config{Dir: dir, Release: "1.2.3"}, other.State); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir)
	wantRefused(t, l.State, "site-a", "1", false)
	wantRefused(t, l.State, "site-b", "1", true)
}
