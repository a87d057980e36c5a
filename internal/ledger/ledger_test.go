package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/datadir"
	"pushrelay/internal/ledger"
)

var begin = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

const grace = 90 * day

func open(t testing.TB, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(ledger.Config{Dir: dir, Release: "1.2.3", Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// reopen closes the ledger and opens it again.
func reopen(t testing.TB, dir string, l *ledger.Ledger) *ledger.Ledger {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

// issued is a certificate of a year, backdated by a day as all are.
func issued(agent, serial string, by ledger.Way, at time.Time) ledger.Certificate {
	return ledger.Certificate{Agent: agent, Serial: serial, From: at.Add(-day), To: at.Add(365 * day), By: by, At: at}
}

func issue(t testing.TB, l *ledger.Ledger, c ledger.Certificate) {
	t.Helper()
	if err := l.Issue(c); err != nil {
		t.Fatal(err)
	}
}

func revoke(t testing.TB, l *ledger.Ledger, r ledger.Revocation) {
	t.Helper()
	if _, err := l.Revoke(r); err != nil {
		t.Fatal(err)
	}
}

func wantRefused(t testing.TB, s *ledger.State, agent, serial string, want bool) {
	t.Helper()
	if reason, got := s.Refuses(agent, serial); got != want || got != (reason != "") {
		t.Errorf("Refuses(%s, %s) = %q, %v, want %v", agent, serial, reason, got, want)
	}
}

// TestOrderDecides: what was issued after a revocation is told by the order of the records. The clock of the relay may be set meanwhile.
func TestOrderDecides(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
	token := makeToken(t, l, ledger.Token{Name: "site-a", At: begin, End: begin.Add(11 * day)})
	issue(t, l, enrolled("site-a", "a2", token, begin.Add(10*day))) // by a clock that was ahead
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin.Add(day)})
	token = makeToken(t, l, ledger.Token{Name: "site-a", At: begin.Add(-day)})
	issue(t, l, enrolled("site-a", "a3", token, begin.Add(-day))) // and now it is behind
	issue(t, l, issued("site-b", "b1", ledger.ByCommand, begin))
	for range 2 {
		for serial, want := range map[string]bool{"a1": true, "a2": true, "a3": false, "ffff": true} {
			wantRefused(t, l.State, "site-a", serial, want)
		}
		wantRefused(t, l.State, "site-b", "b1", false)
		wantRefused(t, l.State, "site-c", "a1", false)
		l = reopen(t, dir, l)
	}
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin}) // again: what a token issued meanwhile is refused, too
	wantRefused(t, l.State, "site-a", "a3", true)
}

// TestOnlyTokensAndAllowLift: no other way leads back.
func TestOnlyTokensAndAllowLift(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	if _, err := l.Allow("site-a", begin); !errors.Is(err, ledger.ErrNotRevoked) {
		t.Errorf("Allow() of one that is not revoked: %v", err)
	}
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	for _, by := range []ledger.Way{ledger.ByCommand, ledger.ByRenewal} {
		err := l.Issue(issued("site-a", "a1", by, begin))
		if _, ok := errors.AsType[*ledger.RevokedError](err); !ok || !strings.Contains(err.Error(), "site-a is revoked: relay-server agents token site-a lets it in with a new key; ") {
			t.Errorf("Issue() by %s: %v", by, err)
		}
	}
	revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
	lifted, err := l.Allow("site-a", begin.Add(day))
	if err != nil || len(lifted) != 2 {
		t.Fatalf("Allow() = %v, %v", lifted, err)
	}
	for range 2 {
		wantRefused(t, l.State, "site-a", "a1", false)
		l = reopen(t, dir, l)
	}
	issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
	if err := l.Issue(issued("site-a", "a1", ledger.ByCommand, begin)); !errors.Is(err, ledger.ErrIssued) {
		t.Errorf("Issue() of the same serial: %v", err)
	}
}

// TestThrownOut: a name whose revocation stands is not out once it has a certificate that is let in.
func TestThrownOut(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	want := func(when string, out bool) {
		t.Helper()
		a, _ := l.Agent("site-a")
		_, got := l.ThrownOut("site-a")
		if a.IsOut() != out || got != out || l.Revoked() != map[bool]int{true: 1}[out] {
			t.Errorf("%s: IsOut() = %v, ThrownOut() = %v, Revoked() = %d, want %v", when, a.IsOut(), got, l.Revoked(), out)
		}
	}
	want("unknown", false)
	issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
	want("issued", false)
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	want("revoked", true)
	issue(t, l, enrolled("site-a", "a2", makeToken(t, l, ledger.Token{Name: "site-a", At: begin}), begin))
	want("enrolled anew", false)
	issue(t, l, renewed("site-a", "a3", "a2", begin))
	l = reopen(t, dir, l)
	want("renewed", false)
	revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a2", At: begin})
	want("the new one is revoked, with what was renewed from it", true)
	if _, err := l.Allow("site-a", begin); err != nil {
		t.Fatal(err)
	}
	want("allowed", false)
	revoke(t, l, ledger.Revocation{Agent: "site-b", At: begin})
	if _, out := l.ThrownOut("site-b"); !out || l.Revoked() != 1 {
		t.Errorf("one of which nothing was issued is not out")
	}
}

func TestOneCertificate(t *testing.T) {
	l := open(t, t.TempDir())
	issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
	issue(t, l, issued("site-a", "a2", ledger.ByCommand, begin))
	revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
	wantRefused(t, l.State, "site-a", "a1", true)
	wantRefused(t, l.State, "site-a", "a2", false)
	wantRefused(t, l.State, "site-b", "a1", false)
	a, _ := l.Agent("site-a")
	if a.Revoked != nil || len(a.Serials) != 1 || !a.Serials[0].Until.Equal(begin.Add(365*day)) || len(a.Certificates) != 2 {
		t.Errorf("Agent() = %+v", a)
	}
}

func TestSerial(t *testing.T) {
	for text, want := range map[string]string{
		"0A:bC:1": "abc1", "ABC1": "abc1", strings.Repeat("f", 40): strings.Repeat("f", 40),
		"": "", "0": "", "xyz": "", "-1": "", strings.Repeat("f", 41): "",
	} {
		if got, err := ledger.Serial(text); got != want || (err == nil) != (want != "") {
			t.Errorf("Serial(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

// TestYears: the file stays small over years of renewals, and forgets no revocation that may matter.
func TestYears(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	revoke(t, l, ledger.Revocation{Agent: "foreign", At: begin})
	issue(t, l, issued("thief", "ff", ledger.ByCommand, begin))
	revoke(t, l, ledger.Revocation{Agent: "thief", At: begin, Until: begin.Add(30 * day)}) // raised to the end of its certificate
	const agents, life = 8, 30 * day
	serial, largest := 0, int64(0)
	for now := begin; now.Before(begin.Add(4 * 365 * day)); now = now.Add(life / 2) {
		for agent := range agents {
			serial++
			c := ledger.Certificate{Agent: fmt.Sprint("site-", agent), Serial: fmt.Sprintf("%x", serial), From: now.Add(-day), To: now.Add(life), By: ledger.ByRenewal, At: now}
			issue(t, l, c)
		}
		if stat, err := os.Stat(filepath.Join(dir, "ledger.jsonl")); err != nil {
			t.Fatal(err)
		} else if largest = max(largest, stat.Size()); stat.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v", stat.Mode())
		}
		if now.Before(begin.Add(365 * day).Add(grace)) {
			wantRefused(t, l.State, "thief", "ff", true)
		}
		l = reopen(t, dir, l)
	}
	if t.Logf("%d certificates, at most %d bytes", serial, largest); largest > 100_000 {
		t.Errorf("the file had %d bytes", largest)
	}
	wantRefused(t, l.State, "foreign", "1", true)
	if _, found := l.Agent("thief"); found {
		t.Error("a revocation is kept that refuses nothing any more")
	}
	if a, _ := l.Agent("site-1"); len(a.Certificates) < int((life+grace)/(life/2)) {
		t.Errorf("%d certificates of site-1 are left", len(a.Certificates))
	}
}

// TestKilledAtEachByte: whatever is left of the last record, all before it is there, and the next one finds its place.
func TestKilledAtEachByte(t *testing.T) {
	source := t.TempDir()
	l := open(t, source)
	file := filepath.Join(source, "ledger.jsonl")
	var states [][]ledger.Agent // after each record
	var ends []int
	note := func() {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		states, ends = append(states, l.Agents()), append(ends, len(raw))
	}
	issue(t, l, issued("site-a", "a1", ledger.ByCommand, begin))
	note()
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin, Until: begin.Add(day)})
	note()
	token := makeToken(t, l, ledger.Token{Name: "site-a", At: begin})
	note()
	issue(t, l, enrolled("site-a", "a2", token, begin))
	note()
	revoke(t, l, ledger.Revocation{Agent: "site-a", Serial: "a2", At: begin})
	note()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for size := ends[0]; size <= len(whole); size++ {
		records := 0
		for records+1 < len(ends) && ends[records+1] <= size+1 { // the line feed alone may be missing
			records++
		}
		for _, hole := range []int{0, 40} {
			dir := t.TempDir()
			left := append(bytes.Clone(whole[:size]), make([]byte, hole)...)
			if hole > 0 && ends[records] > size { // with the hole there is a line that lacks its end
				records--
			}
			if err := os.WriteFile(filepath.Join(dir, "ledger.jsonl"), left, 0o600); err != nil {
				t.Fatal(err)
			}
			again := open(t, dir)
			if diff := cmp.Diff(states[records], again.Agents()); diff != "" {
				t.Fatalf("%d bytes and a hole of %d (-want +got):\n%s", size, hole, diff)
			}
			if isWhole := hole == 0 && ends[records]-size <= 1 && size <= ends[records]; (again.Torn() == 0) != isWhole {
				t.Errorf("%d bytes and a hole of %d: %d bytes were dropped", size, hole, again.Torn())
			}
			if size%16 > 0 && ends[records] != size { // each costs several syncs
				again.Close()
				continue
			}
			revoke(t, again, ledger.Revocation{Agent: "site-b", At: begin})
			again = reopen(t, dir, again)
			wantRefused(t, again.State, "site-b", "1", true)
			if again.Torn() != 0 || len(again.Agents()) != len(states[records])+1 {
				t.Fatalf("%d bytes: after another record %v", size, again.Agents())
			}
			again.Close()
		}
	}
}

// TestDamageIsRefused: nothing that was told to count is dropped, wherever a bit flips.
func TestDamageIsRefused(t *testing.T) {
	source := t.TempDir()
	l := open(t, source)
	for i := range 3 {
		revoke(t, l, ledger.Revocation{Agent: fmt.Sprint("site-", i), At: begin})
	}
	whole, err := os.ReadFile(filepath.Join(source, "ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	cases := map[string][]byte{
		"empty":              {},
		"a header cut off":   whole[:10],
		"a line missing":     bytes.Join([][]byte{lines[0], lines[2], lines[3]}, nil),
		"no header":          bytes.Join(lines[1:], nil),
		"two lines exchange": bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[3]}, nil),
	}
	for at := range len(whole) - 1 { // without the last line feed the line is whole all the same
		flipped := bytes.Clone(whole)
		flipped[at] ^= 2
		cases[fmt.Sprint("bit in byte ", at)] = flipped
	}
	for name, text := range cases {
		dir := t.TempDir()
		file := filepath.Join(dir, "ledger.jsonl")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ledger.Open(ledger.Config{Dir: dir})
		_, damaged := errors.AsType[*ledger.DamagedError](err)
		_, newer := errors.AsType[*datadir.NewerError](err)
		if !damaged && !newer || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, text) {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ledger.jsonl")
	if err := os.WriteFile(file, []byte(`{"version":3,"release":"9.0.0","by":"other means"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ledger.Open(ledger.Config{Dir: dir})
	want := &datadir.NewerError{What: file, Release: "9.0.0", Format: 3, Known: 2}
	if newer, ok := errors.AsType[*datadir.NewerError](err); !ok || *newer != *want {
		t.Errorf("Open() = %v, want %v", err, want)
	}
}

// TestLostLedgerIsMissed: without it everybody who was revoked would be let in.
func TestLostLedgerIsMissed(t *testing.T) {
	dir := t.TempDir()
	if ledger.Exists(dir) {
		t.Error("an empty directory has a ledger")
	}
	l := open(t, dir)
	if ledger.Exists(dir) {
		t.Error("there is a ledger before the first record")
	}
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	l.Close()
	if err := os.Remove(filepath.Join(dir, "ledger.jsonl")); err != nil || !ledger.Exists(dir) {
		t.Fatal(err)
	}
	if _, err := ledger.Open(ledger.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "ledger.made") {
		t.Errorf("Open() = %v", err)
	}
	if _, err := ledger.Read(dir); err == nil {
		t.Error("Read() takes it for empty")
	}
}

// TestOneWrites: a second process waits a little, and then says who it is.
func TestOneWrites(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	revoke(t, first, ledger.Revocation{Agent: "site-a", At: begin})
	synctest.Test(t, func(t *testing.T) {
		_, err := ledger.Open(ledger.Config{Dir: dir})
		if _, locked := errors.AsType[*ledger.LockedError](err); !locked || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("Open() = %v", err)
		}
	})
	seen, err := ledger.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, seen, "site-a", "1", true)
	first = reopen(t, dir, first)
	wantRefused(t, first.State, "site-a", "1", true)
}

// TestFailedWrites: what could not be written does not count, and leaves nothing behind that hurts what comes next.
func TestFailedWrites(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	revoke(t, l, ledger.Revocation{Agent: "site-a", At: begin})
	l.BreakFile()
	if _, err := l.Revoke(ledger.Revocation{Agent: "site-b", At: begin}); err == nil {
		t.Fatal("Revoke() on a broken file succeeded")
	}
	wantRefused(t, l.State, "site-b", "1", false)
	revoke(t, l, ledger.Revocation{Agent: "site-c", At: begin})
	l = reopen(t, dir, l)
	for agent, want := range map[string]bool{"site-a": true, "site-b": false, "site-c": true} {
		wantRefused(t, l.State, agent, "1", want)
	}
}

func TestOddRecordsAreRefused(t *testing.T) {
	l := open(t, t.TempDir())
	for _, c := range []ledger.Certificate{
		issued("Site_A", "a1", ledger.ByCommand, begin), issued("site-a", "0A", ledger.ByCommand, begin), issued("site-a", "a1", "magic", begin),
		enrolled("site-a", "a1", "0102", begin),
		{Agent: "site-a", Serial: "a1", By: ledger.ByRenewal, Parent: "A1"},
	} {
		if err := l.Issue(c); err == nil {
			t.Errorf("Issue(%+v) succeeded", c)
		}
	}
	if _, err := l.Revoke(ledger.Revocation{Agent: "a/b", At: begin}); err == nil {
		t.Error("Revoke() of no name succeeded")
	}
	for _, token := range []ledger.Token{
		{ID: "01", Name: "site-a", Uses: 1}, {ID: tokenID(1), Name: "site-a"}, {ID: tokenID(1), Name: "Site", Uses: 1}, {ID: tokenID(1), Name: "-", Prefix: true, Uses: 1},
	} {
		if err := l.MakeToken(token); err == nil {
			t.Errorf("MakeToken(%+v) succeeded", token)
		}
	}
}

// FuzzRead: what is read can be written again and is the same then, and whatever the end of the file is, another record has its place.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	l := open(f, dir)
	issue(f, l, enrolled("site-a", "a1", makeToken(f, l, ledger.Token{Name: "site-", Prefix: true, At: begin}), begin))
	if _, err := l.VoidToken(makeToken(f, l, ledger.Token{Name: "site-b", At: begin}), begin); err != nil {
		f.Fatal(err)
	}
	revoke(f, l, ledger.Revocation{Agent: "site-a", At: begin, Until: begin.Add(day)})
	revoke(f, l, ledger.Revocation{Agent: "site-a", Serial: "a1", At: begin})
	if _, err := l.Allow("site-a", begin); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "ledger.jsonl"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-30])
	f.Add([]byte(`{"version":3,"release":"9"}` + "\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		state, again, err := ledger.ReadTwice(ledger.Reseal(raw))
		if err != nil {
			return
		}
		if diff := cmp.Diff(state.Tokens(begin), again.Tokens(begin)); diff != "" {
			t.Errorf("tokens, written again (-first +second):\n%s", diff)
		}
		if diff := cmp.Diff(state.Agents(), again.Agents()); diff != "" {
			t.Errorf("written again (-first +second):\n%s", diff)
		}
		for _, a := range state.Agents() {
			for _, c := range a.Certificates {
				if _, refused := state.Refuses(a.Name, c.Serial); refused && a.Revoked == nil && len(a.Serials) == 0 {
					t.Errorf("%s is refused, and nobody revoked it", a.Name)
				}
			}
		}
	})
}
