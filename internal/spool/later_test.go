package spool_test

import (
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/change"
	"pushrelay/internal/metric"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// later is a field that a later release may have added to any message.
const later = "\xa2\x06\x05later"

// formerPayloads are a journal of the release whose encoding was by hand, with payloads of each kind.
func formerPayloads(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/records.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		kind, fields, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		raw, err := hex.DecodeString(fields)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, kind+string(raw))
	}
	return all
}

// openFormer opens a spool of the relays that are in that journal.
func openFormer(t *testing.T, dir string) (*spool.Spool, error) {
	t.Helper()
	s := spool.New(spool.Config{
		Dir: dir, Agent: "site-a", Relays: []string{"a:1", "b:1", "c:1"}, Wait: time.Second, Release: "1.0",
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Registerer: prometheus.NewRegistry(),
	})
	return s, s.Recover(t.Context())
}

// payloadsIn returns how many payloads of each kind a journal has that end with the field of a later release, and how many that do not.
func payloadsIn(t *testing.T, dir string) (with, without map[string]int) {
	t.Helper()
	with, without = map[string]int{}, map[string]int{}
	if err := wal.Scan(t.Context(), wal.Config{Dir: dir}, func(payload []byte) error {
		if strings.HasSuffix(string(payload), later) {
			with[string(payload[:1])]++
		} else {
			without[string(payload[:1])]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return with, without
}

// TestFormerJournal: what the release before has written is read as it was meant.
func TestFormerJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	writeJournal(t, dir, formerPayloads(t)...)
	s, err := openFormer(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	st := s.Status()
	wantRelays := []spool.RelayStatus{{Addresses: []string{"a:1", "b:1"}, Store: spool.StoreID{7}, Pending: 3}, {Addresses: []string{"c:1"}, Store: spool.StoreID{15: 1}, Pending: 2}}
	if diff := cmp.Diff(wantRelays, st.Relays); diff != "" || st.Journal != (spool.JournalID{2}) || st.Groups != 2 || st.Entries != 4 || s.Names() != metric.UTF8Names {
		t.Errorf("it is read as %+v with the names %v (-want +got):\n%s", st, s.Names(), diff)
	}
	var got []spool.Pending
	for _, p := range s.Pending() {
		p.Key, p.Oldest = keyOf(p.Key.Job()), p.Oldest.UTC()
		got = append(got, p)
	}
	at := time.Unix(1_790_000_000, 123_456_789).UTC()
	want := []spool.Pending{
		{Key: keyOf("j"), Relay: "c:1", Changes: 1, Bytes: 4, Oldest: at},
		{Key: keyOf("j"), Relay: "a:1", Changes: 3, Bytes: 8, Oldest: at.Add(time.Second)},
		{Key: keyOf("j"), Relay: "c:1", Changes: 1, Oldest: at.Add(time.Minute)},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b spool.Pending) bool {
		return a.Key.Canonical() == b.Key.Canonical() && a.Relay == b.Relay && a.Changes == b.Changes && a.Bytes == b.Bytes && a.Oldest.Equal(b.Oldest)
	})); diff != "" {
		t.Errorf("what waits is another (-want +got):\n%s", diff)
	}
}

// TestFieldsOfLaterReleasesAreKept: fields of changes, cursors and settings that are not known are written again as they are, by snapshots and when the
// journal begins anew.
func TestFieldsOfLaterReleasesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	payloads := formerPayloads(t)
	for i, p := range payloads {
		if strings.Contains("crs", p[:1]) {
			payloads[i] = p + later
		}
	}
	writeJournal(t, dir, payloads...)
	want := map[string]int{"c": 4, "r": 2, "s": 1}
	for life := range 3 {
		s, err := openFormer(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		if life == 1 { // which has the changes numbered anew
			feed, err := s.Attach(spool.Attachment{Relay: "a:1", Store: spool.StoreID{7}, Journal: s.Journal(), Decided: spool.Decided{Sequence: 1 << 40}, AgentLabel: "agent"})
			if err != nil {
				t.Fatal(err)
			}
			feed.Detach()
			want = map[string]int{"c": 4, "r": 2}
			if err := s.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		with, without := payloadsIn(t, dir)
		if diff := cmp.Diff(want, with); diff != "" || without["c"] != 0 || without["r"] != 0 {
			t.Errorf("in life %d the snapshot has these with the field (-want +got):\n%s\nand without it %v", life, diff, without)
		}
	}
}

// TestUnknownEventsAreRefused: what says that something happened is refused with more than is known of it, and so are numbers that are not known, with the
// release that wrote it.
func TestUnknownEventsAreRefused(t *testing.T) {
	cases := map[string]string{
		"a kind":                       "Q",
		"a decision":                   "v\x10\x01\x18\x04",
		"no decision":                  "v\x10\x01",
		"names":                        "s\x0a\x03a:1\x18\x02",
		"a known field as a text":      "r\x0a\x03a:1",
		"a change's number as a text":  "c\x0a\x03abc",
		"an odd number of new numbers": "j\x1a\x01\x05",
	}
	for _, p := range formerPayloads(t) {
		if !strings.Contains("crsf", p[:1]) {
			cases["a field of "+p[:1]] = p + later
		}
	}
	for what, payload := range cases {
		dir := filepath.Join(t.TempDir(), "spool")
		writeJournal(t, dir, ofRelease("0.9", 4), payload)
		if _, err := openFormer(t, dir); err == nil || !strings.Contains(err.Error(), "0.9") {
			t.Errorf("%s: %v, want an error that names the release which wrote it", what, err)
		}
	}
}

// TestAddingUpWhatIsNotKnown: changes are added up only where what is not known of them is the same, and the sum has it.
func TestAddingUpWhatIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			fields  []string
			waiting int
		}{
			{[]string{later, later, later}, 1},
			{[]string{later, "", ""}, 2},
			{[]string{later, "\xa2\x06\x05other", "\xa2\x06\x05other"}, 2},
		} {
			h := newHouse(t, "a:1")
			for range tt.fields {
				h.must(change.Spooled, change.Add, "j", "# TYPE m counter\nm 1\n")
			}
			h.close()
			var payloads []string
			adds := 0
			if err := wal.Scan(t.Context(), wal.Config{Dir: h.cfg.Dir}, func(payload []byte) error {
				p := string(payload)
				if p[0] == 'c' {
					p += tt.fields[adds]
					adds++
				}
				payloads = append(payloads, p)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			h.cfg.Dir = filepath.Join(t.TempDir(), "spool")
			writeJournal(t, h.cfg.Dir, payloads...)
			h.open()
			if got := h.pending("a:1"); got != tt.waiting {
				t.Errorf("with the fields %q %d changes wait, want %d", tt.fields, got, tt.waiting)
			}
			// The journal begins anew, and has what was added up as it is then.
			feed, err := h.Attach(spool.Attachment{Relay: "a:1", Store: spool.StoreID{1}, Journal: h.Journal(), Decided: spool.Decided{Sequence: 1 << 40}, AgentLabel: "agent"})
			if err != nil {
				t.Fatal(err)
			}
			feed.Detach()
			h.crash()
			if got := h.pending("a:1"); got != tt.waiting {
				t.Errorf("with the fields %q %d changes wait after a kill, want %d", tt.fields, got, tt.waiting)
			}
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			with, _ := payloadsIn(t, h.cfg.Dir)
			if with["c"] != 1 {
				t.Errorf("with the fields %q %d changes have the field of a later release in the end", tt.fields, with["c"])
			}
			r := newRelay("a:1", 1)
			h.visit(r)
			wantMap(t, "what the relay has", r.has("j"), map[string]string{"m": "m 3"})
			h.close()
		}
	})
}
