// Package agentweb is the page that people look at on an agent: its relays, what waits for them, its targets and its text files.
//
// It shows what the agent tells of itself to programs, and changes nothing. Start reading at [Handler.Mount].
package agentweb

import (
	"cmp"
	"embed"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/agentapi"
	"pushrelay/internal/webpage"
)

// Config is what a [Handler] works with.
type Config struct {
	// Status and Spool are what the agent tells of itself. Required.
	Status func() agentapi.Status
	Spool  func() agentapi.SpoolContent
	// Textfiles are the paths of the text files whose groups are pushed. Required.
	Textfiles func() []string
	// Version is the agent's.
	Version string
	// Logger reports a page that could not be made. Required.
	Logger *slog.Logger
}

//go:embed templates/*.html
var templateFiles embed.FS

// Handler serves the page. It is safe for concurrent use and starts nothing.
type Handler struct {
	cfg   Config
	pages func() *webpage.Pages // made when somebody looks: most agents are never looked at, and are small
}

// New returns a handler.
func New(cfg Config) *Handler {
	templates, err := fs.Sub(templateFiles, "templates")
	if err != nil {
		panic(err) // they are in the program
	}
	return &Handler{cfg: cfg, pages: sync.OnceValue(func() *webpage.Pages {
		return webpage.New(webpage.Config{Templates: templates, Program: "relay-agent", Logger: cfg.Logger})
	})}
}

// Mount registers the page.
func (h *Handler) Mount(r *route.Router) {
	r.Get("/", h.show)
	r.Head("/", func(w http.ResponseWriter, r *http.Request) { h.pages().ShowHead(w, r) })
	asset := func(w http.ResponseWriter, r *http.Request) { h.pages().ServeAsset(w, r) }
	r.Get("/assets/:version/:name", asset)
	r.Head("/assets/:version/:name", asset)
}

// How many rows there are of what may be many. The whole is in the JSON.
const (
	maxTargets    = 500
	maxWaiting    = 100
	maxTextfiles  = 500
	maxRejections = 50
)

type content struct {
	Mark, Verdict string
	Problems      []string
	Started       webpage.Moment
	Relays        []relayRow
	Spool         spoolFacts
	Waiting       []waitingRow
	MoreWaiting   int
	Rejections    []rejectionRow
	Targets       []targetRow
	MoreTargets   int
	Down          int
	Missing       string
	Textfiles     []textfileRow
	MoreTextfiles int
	BadTextfiles  int
}

type relayRow struct {
	agentapi.Relay

	At        webpage.Moment
	RoundTrip string
}

type spoolFacts struct {
	agentapi.Spool

	Oldest string
}

type waitingRow struct {
	Labels  string
	Relay   string
	Changes int
	Bytes   string
	Oldest  webpage.Moment
}

type rejectionRow struct {
	Labels, Relay, Reason string
	At                    webpage.Moment
}

type targetRow struct {
	agentapi.Target

	Scraped webpage.Moment
	Took    string
}

type textfileRow struct{ Path, Reason string }

func (h *Handler) show(w http.ResponseWriter, r *http.Request) {
	h.pages().Show(w, r, 0, func(now time.Time) webpage.Page {
		c := newContent(h.cfg.Status(), h.cfg.Spool(), h.cfg.Textfiles(), now)
		return webpage.Page{Template: "agent", Title: c.Verdict, Topics: "agent", Version: h.cfg.Version, Content: c}
	})
}

func newContent(st agentapi.Status, spooled agentapi.SpoolContent, textfiles []string, now time.Time) content {
	c := content{Started: webpage.MomentOf(st.StartTime, now), Spool: spoolFacts{Spool: st.Spool}, Missing: st.TargetsMissing}
	away := 0
	for _, l := range st.Relays {
		row := relayRow{Relay: l, At: webpage.MomentOf(l.Since, now)}
		if l.RoundTripSeconds > 0 {
			row.RoundTrip = webpage.Duration(time.Duration(l.RoundTripSeconds * float64(time.Second)))
		}
		if !l.Connected {
			away++
		}
		c.Relays = append(c.Relays, row)
	}
	if st.Spool.OldestSeconds > 0 {
		c.Spool.Oldest = webpage.Span(time.Duration(st.Spool.OldestSeconds * float64(time.Second)))
	}
	c.addSpool(&spooled, now)
	c.addTargets(st.Targets, now)
	c.addTextfiles(st.Textfiles, textfiles)
	c.judge(&st, away)
	return c
}

func (c *content) addSpool(spooled *agentapi.SpoolContent, now time.Time) {
	shown := spooled.Groups[:min(len(spooled.Groups), maxWaiting)]
	c.MoreWaiting = len(spooled.Groups) - len(shown)
	for _, g := range shown {
		c.Waiting = append(c.Waiting, waitingRow{
			Labels: labelText(g.GroupingKey), Relay: g.Relay, Changes: g.Changes, Bytes: webpage.Bytes(g.Bytes), Oldest: webpage.MomentOf(g.Oldest, now),
		})
	}
	for _, r := range spooled.Rejections[:min(len(spooled.Rejections), maxRejections)] {
		c.Rejections = append(c.Rejections, rejectionRow{Labels: labelText(r.GroupingKey), Relay: r.Relay, Reason: r.Reason, At: webpage.MomentOf(r.At, now)})
	}
}

func (c *content) addTargets(targets []agentapi.Target, now time.Time) {
	// What is down is looked for.
	slices.SortStableFunc(targets, func(x, y agentapi.Target) int {
		return cmp.Compare(min(len(y.LastError), 1), min(len(x.LastError), 1))
	})
	for i, t := range targets {
		if t.LastError != "" {
			c.Down++
		}
		if i >= maxTargets {
			c.MoreTargets++
			continue
		}
		row := targetRow{Target: t}
		if t.LastScrape != nil {
			row.Scraped, row.Took = webpage.MomentOf(*t.LastScrape, now), webpage.Duration(time.Duration(t.LastDurationSeconds*float64(time.Second)))
		}
		c.Targets = append(c.Targets, row)
	}
}

// addTextfiles lists those with something wrong first. One can be pushed, as it was before, and be wrong now.
func (c *content) addTextfiles(bad []agentapi.Textfile, pushed []string) {
	c.BadTextfiles = len(bad)
	isBad := map[string]bool{}
	for _, f := range bad {
		isBad[f.Path] = true
		c.Textfiles = append(c.Textfiles, textfileRow{f.Path, f.Reason})
	}
	slices.Sort(pushed)
	for _, path := range pushed {
		if !isBad[path] {
			c.Textfiles = append(c.Textfiles, textfileRow{Path: path})
		}
	}
	c.MoreTextfiles = max(len(c.Textfiles)-maxTextfiles, 0)
	c.Textfiles = c.Textfiles[:len(c.Textfiles)-c.MoreTextfiles]
}

// judge says in a line how all of it is.
func (c *content) judge(st *agentapi.Status, away int) {
	note := func(n int, one, many string) {
		if n > 0 {
			c.Problems = append(c.Problems, webpage.Plural(n, one, many))
		}
	}
	if !st.Spool.Writable {
		c.Problems = append(c.Problems, "the spool takes no pushes")
	}
	note(away, "relay is not connected", "relays are not connected")
	note(c.Down, "target is down", "targets are down")
	note(c.BadTextfiles, "text file is not pushed as it is", "text files are not pushed as they are")
	note(len(c.Rejections), "push was rejected too late", "pushes were rejected too late")
	switch {
	case !st.Spool.Writable || away == len(st.Relays) && away > 0:
		c.Mark, c.Verdict = "bad", "This agent needs attention"
	case len(c.Problems) > 0:
		c.Mark, c.Verdict = "warn", "Something to look at"
	default:
		c.Verdict = "All is well"
	}
}

// labelText writes a grouping key, the job first.
func labelText(labels map[string]string) string {
	names := slices.Sorted(maps.Keys(labels))
	if i := slices.Index(names, "job"); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, "job")
	}
	var b strings.Builder
	for _, name := range names {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name + "=" + strconv.Quote(labels[name]))
	}
	return b.String()
}
