package shared_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"pushrelay/internal/cluster/enginetest"
	"pushrelay/internal/cluster/shared"
	"pushrelay/internal/ledger"
)

var begin = time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)

const (
	day   = 24 * time.Hour
	grace = 90 * day
)

// A member has a copy of the ledger that runs.
type member struct {
	*ledger.Ledger

	journal *shared.Journal
	name    string
	revoked atomic.Int64 // how often it was told of revocations
	stop    func()
}

func start(t testing.TB, name string, client *clientv3.Client) *member {
	t.Helper()
	m := &member{name: name}
	m.journal = shared.NewJournal(shared.LedgerConfig{
		Client: client, Prefix: "/test/ledger/", Release: "1.2.3", Grace: grace, Revoked: func() { m.revoked.Add(1) },
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)).With(slog.String("member", name)),
	})
	if err := m.journal.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Ledger = ledger.On(m.journal, grace)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.journal.Run(ctx); err != nil {
			t.Errorf("member %s ended: %v", name, err)
		}
	})
	m.stop = func() { cancel(); running.Wait() }
	t.Cleanup(m.stop)
	return m
}

// three are members that share one etcd.
func three(t testing.TB) (members []*member, client *clientv3.Client) {
	t.Helper()
	client = enginetest.New(t, 1).Start(t, "a")["a"].Client()
	for _, name := range enginetest.Names(3) {
		members = append(members, start(t, name, client))
	}
	return members, client
}

func text(t testing.TB, s *ledger.State) string {
	t.Helper()
	lines, err := ledger.EncodeRecords(s.Records())
	if err != nil {
		t.Fatal(err)
	}
	return string(lines)
}

// wantEqual waits until all that members have written counts everywhere, and compares it. Nobody writes any more.
func wantEqual(t testing.TB, members ...*member) {
	t.Helper()
	enginetest.Eventually(t, "all count the same", func() bool {
		for _, m := range members {
			if text(t, m.State) != text(t, members[0].State) {
				return false
			}
		}
		return true
	})
	for _, m := range members {
		if err := m.journal.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(members[0].Agents(), m.Agents()); diff != "" {
			t.Errorf("member %s differs (-%s +%s):\n%s", m.name, members[0].name, m.name, diff)
		}
	}
}

func issued(agent, serial string, at time.Time) ledger.Certificate {
	return ledger.Certificate{Agent: agent, Serial: serial, From: at.Add(-day), To: at.Add(30 * day), By: ledger.ByCommand, At: at}
}

// enrolled is a certificate for a token; each serial number has a key of its own.
func enrolled(agent, serial, token string, at time.Time) ledger.Certificate {
	c := issued(agent, serial, at)
	c.By, c.Token, c.Key = ledger.ByToken, token, keyOf(serial)
	return c
}

func keyOf(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func tokenOf(n, uses int, name string, prefix bool) ledger.Token {
	return ledger.Token{ID: fmt.Sprintf("%016x", n), Name: name, Prefix: prefix, Uses: uses, At: begin, End: begin.Add(day)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// together calls a function for each member at once.
func together(members []*member, do func(i int, m *member)) {
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { do(i, m) })
	}
	all.Wait()
}

// TestTokensAreSpentOnce: however many relays are asked at the same moment.
func TestTokensAreSpentOnce(t *testing.T) {
	members, _ := three(t)
	for round := range 100 {
		token := tokenOf(round, 1, "site-", true)
		must(t, members[round%3].MakeToken(token))
		var let atomic.Int64
		together(members, func(i int, m *member) {
			name := fmt.Sprintf("site-%d-%d", round, i)
			switch err := m.Issue(enrolled(name, fmt.Sprintf("%x", 1+round*3+i), token.ID, begin)); {
			case err == nil:
				let.Add(1)
			case !errors.Is(err, ledger.ErrToken):
				t.Errorf("round %d, member %s: %v", round, m.name, err)
			}
		})
		if let.Load() != 1 {
			t.Fatalf("round %d: a token of one use let in %d", round, let.Load())
		}
	}
	wantEqual(t, members...)
}

// TestKeysGetOneCertificate: the key of a token that asks several relays at once gets the same one from all.
func TestKeysGetOneCertificate(t *testing.T) {
	members, _ := three(t)
	for round := range 50 {
		token := tokenOf(round, 5, "site-a", false)
		must(t, members[round%3].MakeToken(token))
		var got [3]string
		together(members, func(i int, m *member) {
			c := enrolled("site-a", fmt.Sprintf("%x", 1+round*3+i), token.ID, begin)
			c.Key = keyOf(token.ID)
			err := m.IssueOnce(c, func(ledger.Certificate) bool { return true })
			if again, ok := errors.AsType[*ledger.AgainError](err); ok {
				got[i] = again.Former.Serial
				return
			}
			if got[i] = c.Serial; err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		})
		if got[0] != got[1] || got[1] != got[2] {
			t.Fatalf("round %d: the key got %q", round, got)
		}
	}
	wantEqual(t, members...)
}

// TestRevocationsAreHeard: at once where they are made, and by the others as soon as etcd tells, who are told to end sessions.
func TestRevocationsAreHeard(t *testing.T) {
	members, _ := three(t)
	for round := range 20 {
		name, serial := fmt.Sprint("site-", round), fmt.Sprintf("%x", round+1)
		must(t, members[0].Issue(issued(name, serial, begin)))
		wantEqual(t, members...)
		before := [3]int64{}
		for i, m := range members {
			before[i] = m.revoked.Load()
		}
		by := members[round%3]
		if _, err := by.Revoke(ledger.Revocation{Agent: name, At: begin}); err != nil {
			t.Fatal(err)
		}
		if _, refused := by.Refuses(name, serial); !refused {
			t.Fatal("a revocation does not count where it was made")
		}
		for i, m := range members {
			if m == by {
				continue
			}
			enginetest.Eventually(t, "the others refuse it, and are told", func() bool {
				_, refused := m.Refuses(name, serial)
				return refused && m.revoked.Load() > before[i]
			})
		}
		// Nothing that one which has not heard of it decides lets the agent in again.
		next := members[(round+1)%3]
		if _, ok := errors.AsType[*ledger.RevokedError](next.Issue(issued(name, serial+"f", begin))); !ok {
			t.Error("a certificate was issued for a name that is revoked")
		}
	}
}

// TestRefusalsAreOfTheNewest: what only others know of yet is not refused for that.
func TestRefusalsAreOfTheNewest(t *testing.T) {
	members, client := three(t)
	late := start(t, "late", client)
	late.stop() // it hears nothing any more
	must(t, members[0].MakeToken(tokenOf(1, 1, "site-a", false)))
	if err := late.Issue(enrolled("site-a", "a1", tokenOf(1, 1, "site-a", false).ID, begin)); err != nil {
		t.Errorf("by a token of another relay: %v", err)
	}
	if _, err := members[1].Revoke(ledger.Revocation{Agent: "site-a", At: begin}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Allow("site-a", begin); err != nil {
		t.Errorf("lifting what another relay has revoked: %v", err)
	}
	wantEqual(t, members...)
}

// TestDecisionsAreOnTheNewest: what was decided on what has changed since is not kept, and what was read of it takes nothing back.
func TestDecisionsAreOnTheNewest(t *testing.T) {
	members, client := three(t)
	a, b := members[0], members[1]
	at := a.journal.At()
	must(t, b.Issue(issued("site-b", "b1", begin)))
	enginetest.Eventually(t, "the other one has heard", func() bool { return a.HasAny("site-b") })
	if err := a.journal.Append(t.Context(), at, b.Records()); !errors.Is(err, ledger.ErrOvertaken) {
		t.Errorf("Append() of what was decided before = %v", err)
	}
	counted, err := a.journal.Reread(t.Context(), func() {
		must(t, b.Issue(issued("site-b", "b2", begin)))
		enginetest.Eventually(t, "the other one has heard", func() bool { return a.Has("site-b", "b2") })
	})
	if err != nil || counted || !a.Has("site-b", "b2") {
		t.Errorf("what was read before was put in the place of more: %v, %v", counted, err)
	}

	// One that was away for so long that the next number it knows of is gone does not write that again.
	late := start(t, "late", client)
	late.stop()
	must(t, b.Issue(issued("site-b", "b3", begin)))
	must(t, b.journal.Compact(t.Context(), begin))
	if _, err := client.Delete(t.Context(), "/test/ledger/0", clientv3.WithRange("/test/ledger/1")); err != nil {
		t.Fatal(err)
	}
	must(t, late.Issue(issued("site-c", "c1", begin)))
	enginetest.Eventually(t, "all have what it noted", func() bool { return a.HasAny("site-c") && b.HasAny("site-c") })
	wantEqual(t, append(members, start(t, "anew", client))...)
}

// TestRestart: who was away, or begins anew, has what the others have.
func TestRestart(t *testing.T) {
	members, client := three(t)
	members[2].stop()
	for i := range 700 { // more than a page
		must(t, members[i%2].Issue(issued(fmt.Sprint("site-", i), fmt.Sprintf("%x", i+1), begin)))
	}
	wantEqual(t, members[0], members[1], start(t, "anew", client))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := members[2].journal.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wantEqual(t, members...)
	cancel()
	running.Wait()
}

// TestImportAndExport: a ledger goes from a file into a cluster, once, and from there into a file.
func TestImportAndExport(t *testing.T) {
	members, client := three(t)
	own := t.TempDir()
	file, err := ledger.Open(ledger.Config{Dir: own, Grace: grace})
	must(t, err)
	for i := range 2500 { // several parts
		must(t, file.Issue(issued(fmt.Sprint("site-", i), fmt.Sprintf("%x", i+1), begin)))
	}
	if _, err := file.Revoke(ledger.Revocation{Agent: "site-7", At: begin}); err != nil {
		t.Fatal(err)
	}
	must(t, members[0].journal.Import(t.Context(), file.State))
	must(t, members[2].Issue(issued("site-x", "ffff", begin)))
	for _, again := range []*member{members[1], start(t, "anew", client)} {
		if err := again.journal.Import(t.Context(), ledger.NewState()); !errors.Is(err, shared.ErrNotEmpty) {
			t.Errorf("a second import: %v", err)
		}
	}
	must(t, file.Issue(issued("site-x", "ffff", begin)))
	wantEqual(t, members...)
	if diff := cmp.Diff(file.Agents(), members[1].Agents()); diff != "" {
		t.Errorf("after the import (-file +cluster):\n%s", diff)
	}
	enginetest.Eventually(t, "the others are told of what was revoked", func() bool { return members[1].revoked.Load() > 0 })

	must(t, members[0].Issue(issued("site-y", "fffe", begin)))
	must(t, file.Issue(issued("site-y", "fffe", begin)))
	if _, locked := errors.AsType[*ledger.LockedError](members[1].journal.Export(t.Context(), ledger.Config{Dir: own})); !locked {
		t.Error("a file was written that another ledger has open")
	}
	left := t.TempDir()
	must(t, members[1].journal.Export(t.Context(), ledger.Config{Dir: left, Release: "1.2.3"}))
	must(t, file.Close())
	back, err := ledger.Open(ledger.Config{Dir: left, Grace: grace})
	must(t, err)
	defer back.Close()
	if diff := cmp.Diff(file.Agents(), back.Agents()); diff != "" || !ledger.Exists(left) {
		t.Errorf("after the export (-file +back):\n%s", diff)
	}
}

// TestNotUnderstood: what a later release has written stops the relay, and is never passed over.
func TestNotUnderstood(t *testing.T) {
	client := enginetest.New(t, 1).Start(t, "a")["a"].Client()
	for i, tt := range []struct{ name, key, value, want string }{
		{"a later format", "00000000000000000002", `{"version":99,"release":"9.0.0","id":"x"}` + "\n", "was written by a newer release, 9.0.0"},
		{"a record of another kind", "00000000000000000002", `{"version":2,"id":"x"}` + "\n" + `{"at":"2026-12-01T10:00:00Z","pardoned":{}}` + "\n", "it is of 0 kinds"},
		{"no lines", "00000000000000000002", "\xff", "does not understand"},
		{"a key of no number", "1st", "", `the key "/test/3/1st"`},
		{"a mark without its parts", "mark", "\x0a\x01x\x10\x02", "has 0 parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			prefix := fmt.Sprintf("/test/%d/", i)
			j := shared.NewJournal(shared.LedgerConfig{Client: client, Prefix: prefix, Grace: grace, Revoked: func() {}, Logger: slog.New(slog.DiscardHandler)})
			must(t, j.Recover(t.Context()))
			must(t, ledger.On(j, grace).Issue(issued("site-a", "a1", begin)))
			ended := make(chan error)
			go func() { ended <- j.Run(t.Context()) }()
			if _, err := client.Put(t.Context(), prefix+tt.key, tt.value); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Run() = %v, want %q", err, tt.want)
				}
			case <-time.After(20 * time.Second):
				t.Error("it goes on")
			}
			again := shared.NewJournal(shared.LedgerConfig{Client: client, Prefix: prefix, Logger: slog.New(slog.DiscardHandler)})
			if err := again.Recover(t.Context()); tt.name != "a key of no number" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Recover() = %v, want %q", err, tt.want)
			}
		})
	}
}
