package spool_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/exposition"
	"pushrelay/internal/metric"
	"pushrelay/internal/spool"
	"pushrelay/internal/wal"
)

// meet has a session with a relay that says so of itself.
func (h *house) meet(address string, id byte, told spool.Attachment) {
	h.t.Helper()
	told.Relay, told.Store = address, spool.StoreID{id}
	feed, err := h.Attach(told)
	if err != nil {
		h.t.Fatal(err)
	}
	feed.Detach()
}

const (
	foreign = "# TYPE go_goroutines counter\ngo_goroutines 1\n" // is a gauge of relays
	dotted  = "{\"a.b\"} 1\n"                                   // is no legacy name
)

var goroutines = map[string]metric.Type{"go_goroutines": metric.Gauge, "pushes": metric.Summary}

// wantRefused wants a push refused for that reason; taken for none.
func (h *house) wantRefused(when, body, why string) {
	h.t.Helper()
	_, err := h.do(change.Replace, "j", body)
	if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
		h.t.Errorf("%s, %q: %v, want %q", when, body, err, why)
	}
}

// TestSettingsAreRemembered: what a relay said of itself holds while it is away, over restarts and snapshots; its limits do not.
func TestSettingsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		check := func(when string, names metric.NameScheme, ofDotted, ofForeign, ofLabel string) {
			t.Helper()
			if got := h.Names(); got != names {
				t.Errorf("%s, the names in paths are of scheme %d, want %d", when, got, names)
			}
			h.wantRefused(when, dotted, ofDotted)
			h.wantRefused(when, foreign, ofForeign)
			labelled := request(change.Replace, "j", "m 1\n")
			labelled.Key = labelled.Key.With("site", "x")
			if err := h.Apply(t.Context(), labelled).Err(); (err == nil) != (ofLabel == "") || err != nil && !strings.Contains(err.Error(), ofLabel) {
				t.Errorf("%s, a key with the label: %v, want %q", when, err, ofLabel)
			}
		}
		reopen := func() { h.close(); h.open() }
		check("before a relay was met", metric.LegacyNames, "", "", "")
		if err := h.NamesInDoubt(); err == nil || !strings.Contains(err.Error(), "relay a:1 is not attached") {
			t.Errorf("NamesInDoubt = %v before a relay was met", err)
		}
		const ofForeign = "gathered metric family go_goroutines has type COUNTER but should have GAUGE"
		h.meet("a:1", 1, spool.Attachment{AgentLabel: "site", Names: metric.UTF8Names, OwnFamilies: goroutines, Limits: exposition.Limits{MaxSeries: 2}})
		for _, again := range []struct {
			when string
			f    func()
		}{
			{"after its session", func() {}},
			{"after a crash", h.crash},
			{"after a restart", reopen},
			{"after a snapshot", func() {
				if err := h.Snapshot(t.Context()); err != nil {
					t.Fatal(err)
				}
				h.crash()
			}},
		} {
			again.f()
			if err := h.NamesInDoubt(); err != nil {
				t.Errorf("%s: %v", again.when, err)
			}
			check(again.when, metric.UTF8Names, "", ofForeign, "which the relay adds")
		}
		h.wantRefused("after restarts", "m 1\nn 1\no 1\n", "")

		h.meet("a:1", 1, spool.Attachment{})
		check("after other settings", metric.LegacyNames, "text format parsing error", "", "")
		h.crash()
		check("after other settings and a crash", metric.LegacyNames, "text format parsing error", "", "")
	})
}

// TestForgottenSettings: the settings of a relay that is configured no more are gone, also when its address is configured again.
func TestForgottenSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		h.meet("a:1", 1, spool.Attachment{Names: metric.UTF8Names, OwnFamilies: goroutines})
		for _, relays := range [][]string{{"b:1"}, {"a:1"}, {"a:1"}} {
			h.close()
			h.cfg.Relays = relays
			h.open()
			if h.Names() != metric.LegacyNames {
				t.Errorf("with the relays %q, names are still read as the one said that is gone", relays)
			}
			h.wantRefused("with the relays "+relays[0], foreign, "")
		}
		h.close()
	})
}

// TestSettingsInMemory: a spool in memory knows them as long as it lives.
func TestSettingsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		h.close()
		h.cfg.Dir = ""
		h.open()
		defer func() { h.close() }()
		h.meet("a:1", 1, spool.Attachment{Names: metric.UTF8Names, OwnFamilies: goroutines})
		if h.Names() != metric.UTF8Names {
			t.Error("the names in paths are legacy names")
		}
		h.wantRefused("in memory", foreign, "should have GAUGE")
		h.wantRefused("in memory", "pushes_count 1\n", "collides with previously collected summary named \"pushes\"")
	})
}

// TestSettingsOfSeveralRelays: paths are read by the wider scheme, and refused is what no relay takes; a relay that was not met may take anything.
func TestSettingsOfSeveralRelays(t *testing.T) {
	legacy, utf8 := spool.Attachment{AgentLabel: "site"}, spool.Attachment{AgentLabel: "site", Names: metric.UTF8Names}
	knows := spool.Attachment{AgentLabel: "site", OwnFamilies: goroutines}
	for _, tt := range []struct {
		name                       string
		a, b                       *spool.Attachment
		names                      metric.NameScheme
		ofDotted, ofForeign, label string
	}{
		{"both legacy", &legacy, &legacy, metric.LegacyNames, "parsing error", "", "site"},
		{"one wider", &legacy, &utf8, metric.UTF8Names, "", "", "site"},
		{"one not met", &knows, nil, metric.LegacyNames, "", "", ""},
		{"one wider and one not met", nil, &utf8, metric.UTF8Names, "", "", ""},
		{"both with the family", &knows, &knows, metric.LegacyNames, "parsing error", "should have GAUGE", "site"},
		{"one with the family", &knows, &legacy, metric.LegacyNames, "parsing error", "", "site"},
		{"another label", &legacy, &spool.Attachment{AgentLabel: "other"}, metric.LegacyNames, "parsing error", "", ""},
		{"the label of every group", &spool.Attachment{AgentLabel: "job"}, &spool.Attachment{AgentLabel: "job"}, metric.LegacyNames, "parsing error", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, "a:1", "b:1")
				defer func() { h.close() }()
				if tt.a != nil {
					h.meet("a:1", 1, *tt.a)
				}
				if tt.b != nil {
					h.meet("b:1", 2, *tt.b)
				}
				if got := h.Names(); got != tt.names {
					t.Errorf("the names in paths are of scheme %d, want %d", got, tt.names)
				}
				h.wantRefused("away", dotted, tt.ofDotted)
				h.wantRefused("away", foreign, tt.ofForeign)
				labelled := request(change.Replace, "j", "m 1\n")
				labelled.Key = labelled.Key.With("site", "x")
				if err := h.Apply(t.Context(), labelled).Err(); (err != nil) != (tt.label != "") {
					t.Errorf("a key with the label: %v", err)
				}
			})
		})
	}
}

// TestChangedSettings: what waits stays what it was when it was accepted. A relay that takes less than before rejects it late, and that is told.
func TestChangedSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		defer func() { h.close() }()
		h.meet("a:1", 1, spool.Attachment{Names: metric.UTF8Names})
		h.must(change.Spooled, change.Replace, "j", dotted)
		r := newRelay("a:1", 1)
		r.judge = refuseAll
		h.visit(r)
		if all := h.Rejections(); len(all) != 1 || all[0].Key != keyOf("j") {
			t.Errorf("Rejections = %+v, want that of the push", all)
		}
		h.wantRefused("after that", dotted, "text format parsing error")
	})
}

// TestSettingsAreNotedOnce: a relay that says the same at each session costs the journal nothing.
func TestSettingsAreNotedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, "a:1")
		told := spool.Attachment{AgentLabel: "agent", Names: metric.UTF8Names, OwnFamilies: goroutines}
		for range 3 {
			h.meet("a:1", 1, told)
			time.Sleep(time.Second)
		}
		h.crash()
		h.meet("a:1", 1, told)
		h.close()
		var kinds []byte
		if err := wal.Scan(t.Context(), wal.Config{Dir: h.cfg.Dir}, func(payload []byte) error {
			kinds = append(kinds, payload[0])
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n := len(slices.DeleteFunc(slices.Clone(kinds), func(kind byte) bool { return kind != 's' })); n != 1 {
			t.Errorf("the journal has the payloads %q, want the settings once", kinds)
		}
	})
}
