package roster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/roster"
	"pushrelay/internal/target"
)

// logged is a registry with its log.
func logged(t *testing.T, file string) (*roster.Registry, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	r, err := roster.Open(roster.Config{
		File: file, ForgetAfter: time.Hour, MaxConcurrentScrapes: 2, Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, &log
}

// An agent announces as often as it likes, and that fills no log.
func TestAnnouncementsFillNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, log := logged(t, "")
		announce(r, "first", at("http", "db:9100", "db:9100"))
		squatter := announce(r, "another", at("http", "x:1", "x:1"))
		log.Reset()
		for i := range 200 {
			for _, set := range []target.Set{
				{Targets: []target.Target{at("http", "db:9100", fmt.Sprintf("x:%d", i+1))}, Completeness: target.Incomplete},
				incomplete(fmt.Sprint("a", i)),
			} {
				if err := squatter.SetTargets(set); err != nil {
					t.Fatal(err)
				}
			}
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); lines > 6 || !strings.Contains(log.String(), "another agent had first") || !strings.Contains(log.String(), "other_agent=first") {
			t.Errorf("400 announcements made %d lines:\n%.2000s", lines, log)
		}
		log.Reset()
		time.Sleep(time.Hour)
		if err := squatter.SetTargets(target.Set{Targets: []target.Target{at("http", "db:9100", "y:1")}}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "another agent had first") {
			t.Errorf("an hour later: %s", log)
		}
	})
}

// large is a set near the bound, of targets whose names begin with the prefix.
func large(prefix string) target.Set {
	var names []string
	for i := range 260 {
		names = append(names, fmt.Sprint(prefix, i))
	}
	set := incomplete(names...)
	for i := range set.Targets {
		for l := range 15 {
			set.Targets[i].Labels = append(set.Targets[i].Labels, target.Label{Name: fmt.Sprintf("l%02d", l), Value: strings.Repeat("x", 1020)})
		}
	}
	return set
}

func bytesOf(targets []roster.Target) int {
	total := 0
	for _, t := range targets {
		total += t.Bytes()
	}
	return total
}

// What an agent announces no more has the bounds of a set, as what it announces has.
func TestTargetsThatStayListedAreBounded(t *testing.T) {
	r, _ := open(t, "")
	at := announce(r, "site", at("http", "x:1", "x:1"))
	for _, prefix := range []string{"a", "b", "c", "d"} {
		if err := at.SetTargets(large(prefix)); err != nil {
			t.Fatal(err)
		}
	}
	if got := bytesOf(r.Agents()[0].Targets); got > 2*target.MaxSetBytes {
		t.Errorf("%d bytes are listed, want at most those of two sets", got)
	}
}

// What an earlier relay took beyond the bounds is there no more after the upgrade, and all else is.
func TestFileIsReadWithinBounds(t *testing.T) {
	huge := targets("huge")[0]
	for l := range 64 {
		huge.Labels = append(huge.Labels, target.Label{Name: fmt.Sprintf("l%02d", l), Value: strings.Repeat("x", 1000)})
	}
	fast, above := targets("fast")[0], targets("above")[0]
	fast.ScrapeInterval, fast.ScrapeTimeout, above.Name = 1, 2, ".."
	raw, err := json.Marshal(map[string]any{"version": 1, "agents": []any{
		map[string]any{"agent": "a", "targets": append(targets("x", "y"), huge, above, fast)},
		map[string]any{"agent": "b", "targets": append(large("l").Targets, large("m").Targets...)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	r, log := logged(t, file)
	known := r.Agents()
	if got := listed(known[0]); got != "x y fast" {
		t.Errorf("agent a has %q", got)
	}
	if fast := known[0].Targets[2]; fast.ScrapeInterval != time.Second || fast.ScrapeTimeout != 10*time.Millisecond {
		t.Errorf("the times are %s, %s", fast.ScrapeInterval, fast.ScrapeTimeout)
	}
	if got := bytesOf(known[1].Targets); got > target.MaxSetBytes || got < target.MaxSetBytes/2 {
		t.Errorf("agent b has %d bytes", got)
	}
	if got := strings.Count(log.String(), "beyond the bounds, or are none"); got != 2 {
		t.Errorf("%d warnings, want one for each agent:\n%s", got, log)
	}
}
