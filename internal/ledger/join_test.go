package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/ledger"
)

// A memory is a journal that keeps records nowhere else.
type memory struct{ state *ledger.State }

func (m memory) State() *ledger.State          { return m.state }
func (m memory) At() uint64                    { return 0 }
func (m memory) Refresh(context.Context) error { return nil }
func (m memory) Close() error                  { return nil }
func (m memory) Append(_ context.Context, _ uint64, records []ledger.Record) error {
	m.state.Count(records...)
	return nil
}

// fork returns a ledger that goes on from some records.
func fork(records []ledger.Record) *ledger.Ledger {
	s := ledger.NewState()
	s.Begin(records)
	return ledger.On(memory{s}, grace)
}

func join(t testing.TB, own, backup *ledger.Ledger, now time.Time) *ledger.State {
	t.Helper()
	joined, err := ledger.Join(own.State, backup.State, now)
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

// TestJoinOfOneThatWentOn: the newer one has all that the older one has, and is what both say, also where what was let in again stands behind a revocation.
func TestJoinOfOneThatWentOn(t *testing.T) {
	older := fork(nil)
	issue(t, older, issued("site-a", "a1", ledger.ByCommand, begin))
	revoke(t, older, ledger.Revocation{Agent: "site-a", At: begin})
	newer := fork(older.Records())
	token := makeToken(t, newer, ledger.Token{Name: "site-a", At: begin})
	issue(t, newer, enrolled("site-a", "a2", token, begin))
	if got := join(t, newer, older, begin); got != newer.State {
		t.Errorf("that of the data dir is newer, and became %v", got.Agents())
	}
	if got := join(t, older, newer, begin); got != newer.State {
		t.Errorf("that of the backup is newer, and became %v", got.Agents())
	}
}

// TestJoinOfTwo: each has something that the other one lacks. What one of them threw out stays out, and what it let in after that stays in.
func TestJoinOfTwo(t *testing.T) {
	common := fork(nil)
	for _, name := range []string{"site-a", "site-b", "site-c", "site-d", "site-e"} {
		issue(t, common, issued(name, name[5:]+"1", ledger.ByCommand, begin))
	}
	revoke(t, common, ledger.Revocation{Agent: "site-d", At: begin})
	spent := makeToken(t, common, ledger.Token{Name: "fleet-", Prefix: true, Uses: 2, At: begin})
	own, backup := fork(common.Records()), fork(common.Records())

	revoke(t, backup, ledger.Revocation{Agent: "site-a", At: begin.Add(time.Second)})
	issue(t, own, renewed("site-a", "a2", "a1", begin.Add(time.Minute))) // the thief's
	revoke(t, backup, ledger.Revocation{Agent: "site-b", Serial: "b1", At: begin.Add(time.Second)})
	issue(t, own, renewed("site-b", "b2", "b1", begin.Add(time.Minute))) // the thief's
	issue(t, own, issued("site-b", "b3", ledger.ByCommand, begin.Add(time.Minute)))
	revoke(t, own, ledger.Revocation{Agent: "site-c", At: begin.Add(time.Second)})
	issue(t, backup, renewed("site-c", "c2", "c1", begin.Add(time.Minute))) // the thief's
	issue(t, own, enrolled("site-c", "c3", makeToken(t, own, ledger.Token{Name: "site-c", At: begin}), begin.Add(time.Minute)))
	issue(t, own, renewed("site-c", "c4", "c3", begin.Add(time.Hour)))
	if _, err := own.Allow("site-d", begin.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	issue(t, own, renewed("site-e", "e2", "e1", begin.Add(time.Minute)))
	issue(t, backup, renewed("site-e", "e3", "e1", begin.Add(time.Minute)))
	issue(t, own, enrolled("fleet-1", "f1", spent, begin))
	issue(t, backup, enrolled("fleet-2", "f2", spent, begin))
	ownToken := makeToken(t, own, ledger.Token{Name: "site-x", At: begin})
	backupToken := makeToken(t, backup, ledger.Token{Name: "site-x", At: begin})

	joined := join(t, own, backup, begin)
	for serial, want := range map[string]bool{
		"a1": true, "a2": true, "aff": true, "b1": true, "b2": true, "b3": false, "c1": true, "c2": true, "c3": false, "c4": false, "cff": true,
		"d1": false, "e1": false, "e2": false, "e3": false, "f1": false, "f2": false,
	} {
		agent := "site-" + serial[:1]
		if serial[0] == 'f' {
			agent = "fleet-" + serial[1:]
		}
		wantRefused(t, joined, agent, serial, want)
	}
	if known, found := joined.Token(spent, begin); !found || known.Used != 2 {
		t.Errorf("a token that both have spent once: %+v, %v", known, found)
	}
	for id, want := range map[string]bool{ownToken: true, backupToken: false} {
		if _, found := joined.Token(id, begin); found != want {
			t.Errorf("token %s lets somebody in: %v, want %v", id, found, want)
		}
	}
	for _, again := range []*ledger.Ledger{own, backup} {
		if got := join(t, fork(joined.Records()), again, begin); !cmp.Equal(got.Agents(), joined.Agents()) {
			t.Errorf("joined once more it is another one:\n%s", cmp.Diff(joined.Agents(), got.Agents()))
		}
	}
}

// TestJoinOfWhatWasDropped: one has dropped what was over for it, which the other one still has. Nothing of that lets anybody in.
func TestJoinOfWhatWasDropped(t *testing.T) {
	own := fork(nil)
	issue(t, own, issued("site-a", "a1", ledger.ByCommand, begin))
	token := makeToken(t, own, ledger.Token{Name: "site-b", At: begin, End: begin.Add(1000 * day)})
	issue(t, own, issued("site-c", "c1", ledger.ByCommand, begin))
	revoke(t, own, ledger.Revocation{Agent: "site-a", At: begin})
	backup, now := fork(own.Records()), begin.Add(500*day)
	if _, err := backup.VoidToken(token, begin); err != nil {
		t.Fatal(err)
	}
	backup = fork(backup.Live(now, grace))
	issue(t, backup, issued("site-c", "c2", ledger.ByCommand, now))
	issue(t, own, issued("site-c", "c3", ledger.ByCommand, now))
	if backup.HasAny("site-a") || !own.HasAny("site-a") {
		t.Fatal("nothing was dropped")
	}
	joined := join(t, own, backup, now)
	for serial, want := range map[string]bool{"a1": true, "c2": false, "c3": false} {
		wantRefused(t, joined, "site-"+serial[:1], serial, want)
	}
	if _, found := joined.Token(token, now); found {
		t.Error("a token lets somebody in that was made void")
	}
}

// TestJoinOfWhatWasLifted: who lifts a revocation without knowing of another one lifts that one alone.
func TestJoinOfWhatWasLifted(t *testing.T) {
	own, backup := fork(nil), fork(nil)
	revoke(t, own, ledger.Revocation{Agent: "site-a", At: begin})
	if _, err := own.Allow("site-a", begin); err != nil {
		t.Fatal(err)
	}
	revoke(t, backup, ledger.Revocation{Agent: "site-a", At: begin.Add(time.Second)})
	issue(t, backup, enrolled("site-a", "a2", makeToken(t, backup, ledger.Token{Name: "site-a", At: begin}), begin))
	for _, joined := range []*ledger.State{join(t, own, backup, begin), join(t, backup, own, begin)} {
		wantRefused(t, joined, "site-a", "ff", true)
	}
}

// TestJoinOfMany: whatever two ledgers went through, from one beginning or from none, and whatever each has dropped meanwhile.
func TestJoinOfMany(t *testing.T) {
	for seed := range uint64(500) {
		u := rand.New(rand.NewPCG(seed, 5))
		n := 0 // steps, whose times and serial numbers are all different
		live := func(l *ledger.Ledger, steps int) *ledger.Ledger {
			for range u.IntN(steps + 1) {
				n++
				anything(u, l, n)
			}
			if u.IntN(2) == 0 { // as when it is made smaller
				return fork(l.Live(stepTime(n), grace))
			}
			return l
		}
		common := live(fork(nil), 30).Records()
		own, backup := live(fork(common), 20), live(fork(common), 20)
		if u.IntN(4) == 0 {
			backup = live(fork(nil), 20)
		}
		now := stepTime(n)
		joined := join(t, own, backup, now)
		wantKeptOut(t, joined, own, backup, n)
		wantKeptOut(t, joined, backup, own, n)
		wantTokens(t, joined, own, backup, now)
		if got := join(t, fork(joined.Records()), backup, now); !cmp.Equal(got.Agents(), joined.Agents()) {
			t.Errorf("joined once more it is another one:\n%s", cmp.Diff(joined.Agents(), got.Agents()))
		}
		if t.Failed() {
			t.Fatalf("seed %d\nown:\n%s\nbackup:\n%s\njoined:\n%s", seed, recordsOf(t, own.State), recordsOf(t, backup.State), recordsOf(t, joined))
		}
	}
}

// stepTime is when a step of anything is: some are years apart, so that there is what is over.
func stepTime(n int) time.Time { return begin.Add(time.Duration(n) * 5 * day) }

// anything does something to a ledger, which may refuse it.
func anything(u *rand.Rand, l *ledger.Ledger, n int) {
	name, serial, at := fmt.Sprint("site-", u.IntN(3)), fmt.Sprintf("%x", n), stepTime(n)
	former := fmt.Sprintf("%x", max(1, n-1-u.IntN(12)))
	token := ledger.Token{ID: tokenID(1<<40 + n), Name: name, Uses: 1 + u.IntN(2), At: at, End: at.Add(60 * day)}
	if u.IntN(3) == 0 {
		token.Name, token.Prefix, token.Replace = "site-", true, u.IntN(2) == 0
	}
	switch u.IntN(9) {
	case 0:
		l.Revoke(ledger.Revocation{Agent: name, At: at, Until: at})
	case 1:
		l.Revoke(ledger.Revocation{Agent: name, Serial: former, At: at})
	case 2:
		l.Allow(name, at)
	case 3:
		l.MakeToken(token)
	case 4:
		if tokens := l.Tokens(at); len(tokens) > 0 {
			l.VoidToken(tokens[u.IntN(len(tokens))].ID, at)
		}
	case 5, 6:
		if tokens := l.Tokens(at); len(tokens) > 0 {
			l.Issue(enrolled(name, serial, tokens[u.IntN(len(tokens))].ID, at))
		}
	case 7:
		l.Issue(renewed(name, serial, former, at))
	default:
		l.Issue(issued(name, serial, ledger.ByCommand, at))
	}
}

func recordsOf(t testing.TB, s *ledger.State) string {
	t.Helper()
	lines, err := ledger.EncodeRecords(s.Records())
	if err != nil {
		t.Fatal(err)
	}
	return string(lines)
}

// wantKeptOut wants refused what both refuse, and what one refuses by a revocation that the other one does not have, but for what was renewed from what it lets in. Of names of
// which both know all revocations, what both let in is let in.
func wantKeptOut(t *testing.T, joined *ledger.State, by, other *ledger.Ledger, last int) {
	t.Helper()
	text := recordsOf(t, other.State)
	lacks := func(r ledger.Revocation) bool {
		want := fmt.Sprintf(`{"at":%q,"revoked":{"agent":%q`, r.At.Format(time.RFC3339Nano), r.Agent)
		if r.Serial != "" {
			want += fmt.Sprintf(`,"serial":%q`, r.Serial)
		}
		return !strings.Contains(text, want)
	}
	for _, a := range by.Agents() {
		for _, c := range a.Certificates {
			if !joined.Has(a.Name, c.Serial) {
				t.Errorf("certificate %s of %s is not there", c.Serial, a.Name)
			}
		}
		isLacked := a.Revoked != nil && lacks(*a.Revoked)
		for n := range last + 2 {
			serial := fmt.Sprintf("%x", n+1)
			_, refused := by.Refuses(a.Name, serial)
			_, both := other.Refuses(a.Name, serial)
			if refused && (both || isLacked && !descends(by, other, a.Name, serial)) {
				wantRefused(t, joined, a.Name, serial, true)
			}
		}
		for _, r := range a.Serials {
			if !lacks(r) {
				continue
			}
			wantRefused(t, joined, a.Name, r.Serial, true)
			of, _ := other.Agent(a.Name)
			for _, c := range of.Certificates {
				if c.By == ledger.ByRenewal && c.Parent == r.Serial {
					wantRefused(t, joined, a.Name, c.Serial, true)
				}
			}
		}
	}
	for _, a := range joined.Agents() {
		x, _ := by.Agent(a.Name)
		y, _ := other.Agent(a.Name)
		if x.Revoked != nil || y.Revoked != nil || len(x.Serials)+len(y.Serials) > 0 {
			continue
		}
		for _, c := range x.Certificates {
			wantRefused(t, joined, a.Name, c.Serial, false)
		}
	}
}

// descends reports whether a certificate of the other one was renewed, directly or not, from one that the first lets in.
func descends(by, other *ledger.Ledger, name, serial string) bool {
	of, _ := other.Agent(name)
	for {
		parent := ""
		for _, c := range of.Certificates {
			if c.Serial == serial && c.By == ledger.ByRenewal {
				parent = c.Parent
			}
		}
		if parent == "" || parent == serial {
			return false
		}
		if _, refused := by.Refuses(name, parent); !refused {
			return true
		}
		serial = parent
	}
}

// wantTokens wants no use lost, and no token that the data dir does not have, unless all that it has is in the backup.
func wantTokens(t *testing.T, joined *ledger.State, own, backup *ledger.Ledger, now time.Time) {
	t.Helper()
	for _, token := range joined.Tokens(now) {
		mine, isMine := own.Token(token.ID, now)
		theirs, isTheirs := backup.Token(token.ID, now)
		if token.Used < max(mine.Used, theirs.Used) {
			t.Errorf("token %s was used %d times, and %d and %d in those two", token.ID, token.Used, mine.Used, theirs.Used)
		}
		if !isMine && joined != backup.State {
			t.Errorf("token %s lets somebody in, and the data dir does not have it", token.ID)
		}
		if !isTheirs && strings.Contains(recordsOf(t, backup.State), fmt.Sprintf(`"voided":{"token":%q`, token.ID)) {
			t.Errorf("token %s lets somebody in, and the backup has it void", token.ID)
		}
	}
}

// TestPutBack: the ledger of a backup becomes that of a data dir, or is joined with it. Who has it open, and damage, are in the way.
func TestPutBack(t *testing.T) {
	backup := fork(nil)
	issue(t, backup, issued("site-a", "a1", ledger.ByCommand, begin))
	revoke(t, backup, ledger.Revocation{Agent: "site-a", At: begin})
	put := func(dir string, l *ledger.Ledger) error {
		t.Helper()
		_, err := ledger.PutBack(ledger.Config{Dir: dir, Release: "1.2.3"}, l.State, begin)
		return err
	}
	wantHas := func(dir string, want map[string]bool) {
		t.Helper()
		l := open(t, dir)
		defer l.Close()
		for agent, refused := range want {
			wantRefused(t, l.State, agent, "1", refused)
		}
	}

	fresh := t.TempDir()
	if err := put(fresh, fork(nil)); err != nil || ledger.Exists(fresh) {
		t.Errorf("an empty ledger was put back: %v", err)
	}
	if err := put(fresh, backup); err != nil || !ledger.Exists(fresh) {
		t.Fatal(err)
	}
	wantHas(fresh, map[string]bool{"site-a": true})

	inUse := t.TempDir()
	l := open(t, inUse)
	revoke(t, l, ledger.Revocation{Agent: "site-b", At: begin})
	if _, locked := errors.AsType[*ledger.LockedError](put(inUse, backup)); !locked {
		t.Error("a ledger was changed that is open")
	}
	l.Close()
	if err := put(inUse, backup); err != nil {
		t.Fatal(err)
	}
	wantHas(inUse, map[string]bool{"site-a": true, "site-b": true, "site-c": false})

	file := filepath.Join(fresh, "ledger.jsonl")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := put(fresh, backup); err != nil {
		t.Errorf("one that got lost: %v", err)
	}
	wantHas(fresh, map[string]bool{"site-a": true})
	if err := os.WriteFile(file, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if damaged, ok := errors.AsType[*ledger.DamagedError](put(fresh, backup)); !ok || damaged.File != file {
		t.Errorf("one that is damaged: %v", damaged)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "nonsense\n" {
		t.Errorf("it was changed: %q, %v", text, err)
	}
}
