package web

import (
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/roster"
)

// Bounds of the part about agents.
const (
	agentsPerPage  = 200
	targetsPerPage = 2000
)

// page is all that the template shows.
type page struct {
	Style     template.CSS
	Version   string
	Telemetry string // link to the exposition
	Stats     groupstore.Stats
	Groups    groupList
	Agents    []agentRow
	Known     int // agents
	Connected int
	Targets   int // of all agents
	Down      int // targets of which Prometheus has up 0
	More      int // agents that are not shown
	Started   moment
	Flags     []setting
	Build     []setting
}

type setting struct{ Name, Value string }

type agentRow struct {
	Name, Version, RemoteAddress string
	Connected, Conflict          bool
	Since, LastSeen, Expires     moment
	RoundTrip, ClockSkew         string
	Pending                      uint64
	Targets                      []targetRow
	TargetCount, Down            int
	More                         int // targets that are not shown
}

type targetRow struct {
	Name, Job, Instance, Address string
	Scraped                      moment
	Took                         string
	Status                       int // that the target answered; 0 if it did not
	Error                        string
	ListedUntil                  moment // set for one that the agent announces no more
}

func (h *Handler) newPage(q query, seen visible, now time.Time) page {
	p := page{
		Style: template.CSS(styleSource), Version: seen.build["version"], Stats: seen.stats,
		Telemetry: strings.TrimPrefix(h.cfg.TelemetryPath, "/"),
		Groups:    h.newGroupList(seen.groups, q, now),
		Started:   momentOf(h.cfg.StartedAt, now), Flags: settings(seen.flags), Build: settings(seen.build),
	}
	room := targetsPerPage
	for _, a := range seen.agents {
		p.Known++
		if a.Connected {
			p.Connected++
		}
		p.Targets += len(a.Targets)
		p.Down += a.Down()
		if len(p.Agents) == agentsPerPage {
			p.More++
			continue
		}
		row := newAgentRow(a, room, now)
		room -= len(row.Targets)
		p.Agents = append(p.Agents, row)
	}
	return p
}

func newAgentRow(a roster.Agent, most int, now time.Time) agentRow {
	row := agentRow{
		Name: a.Name, Version: a.Version, RemoteAddress: a.RemoteAddress, Connected: a.Connected, Conflict: a.Conflict,
		Since: momentOf(a.SessionStarted, now), LastSeen: momentOf(a.LastSeen, now), Expires: momentOf(a.CertificateNotAfter, now),
		Pending: a.SpoolPending, TargetCount: len(a.Targets), Down: a.Down(), More: max(len(a.Targets)-most, 0),
	}
	if a.RoundTrip != nil {
		row.RoundTrip = a.RoundTrip.Round(10 * time.Microsecond).String()
	}
	if a.ClockSkew != nil {
		row.ClockSkew = a.ClockSkew.Round(time.Millisecond).String()
	}
	for _, t := range a.Targets[:min(len(a.Targets), most)] {
		tr := targetRow{
			Name: t.Name, Job: t.Job, Instance: t.Instance, Address: t.Address, Scraped: momentOf(t.LastScrape, now),
			Status: t.LastStatus, Error: t.LastError, ListedUntil: momentOf(t.ListedUntil, now),
		}
		if !t.LastScrape.IsZero() {
			tr.Took = t.LastDuration.Round(10 * time.Microsecond).String()
		}
		row.Targets = append(row.Targets, tr)
	}
	return row
}

func settings(values map[string]string) []setting {
	list := make([]setting, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list = append(list, setting{name, values[name]})
	}
	return list
}

// A moment is a time as people read it. Both are empty for the zero time.
type moment struct {
	Exact    string // for machines and for the careful
	Relative string // "3m 12s ago", "in 14d 2h"
}

func momentOf(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := moment{Exact: t.UTC().Format("2006-01-02T15:04:05.000Z")}
	if ahead := t.Sub(now); ahead >= time.Second {
		m.Relative = "in " + span(ahead)
	} else {
		m.Relative = span(now.Sub(t)) + " ago"
	}
	return m
}

// span writes a duration with its two largest units, of which the smaller one is left out where it is 0.
func span(d time.Duration) string {
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	for i, unit := range units {
		if d < unit.size {
			continue
		}
		text := fmt.Sprintf("%d%s", d/unit.size, unit.name)
		if i+1 < len(units) && d%unit.size >= units[i+1].size {
			text += fmt.Sprintf(" %d%s", d%unit.size/units[i+1].size, units[i+1].name)
		}
		return text
	}
	return "0s"
}
