// Package web is the page that a person looks at: the groups with what became of their last push, what is in quarantine,
// the agents and their targets, the flags and the build.
//
// It promises a page that is bounded however full the store is, that needs no script and nothing from elsewhere, and in
// which whatever was pushed is text and never markup. All links are relative, so that it works below any prefix. It shows
// and changes nothing. Start reading at [Handler.ServeHTTP].
package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/metric"
	"pushrelay/internal/policy"
	"pushrelay/internal/roster"
)

// Store is where the groups are.
type Store interface {
	// Snapshot returns the present state. It must not block for long.
	Snapshot() *groupstore.View
	// Select returns the present state of those groups for which keep is true. It may take as long as ctx lives.
	Select(ctx context.Context, keep func(groupstore.Group) bool) (*groupstore.View, error)
	// Stats returns the present sizes.
	Stats() groupstore.Stats
}

// Agents is what is known of agents.
type Agents interface {
	// Agents returns what is known of every agent, sorted by name.
	Agents() []roster.Agent
}

// Config is what a [Handler] works with.
type Config struct {
	// Store has the groups. Required.
	Store Store
	// Agents has the agents. Required.
	Agents Agents
	// Flags are all flags as text, by name, and Build what is known of how the program was built.
	Flags, Build map[string]string
	// StartedAt is when the program started.
	StartedAt time.Time
	// TelemetryPath is where the exposition is, below the route prefix.
	TelemetryPath string
	// RoutePrefix stands before the paths of groups that the page shows; empty, or with a leading slash.
	RoutePrefix string
	// Names is how the push routes read label names, for those paths.
	Names metric.NameScheme
	// Logger reports a page that could not be made. Required.
	Logger *slog.Logger
}

//go:embed page.html
var pageSource string

//go:embed style.css
var styleSource string

// maxRendering is how many pages are made at once. Finding the groups of a page looks at all of them.
const maxRendering = 2

// Handler serves the page. It is safe for concurrent use and starts nothing.
type Handler struct {
	cfg    Config
	page   *template.Template
	policy string
	turns  chan struct{}
}

// New returns a handler.
func New(cfg Config) *Handler {
	sum := sha256.Sum256([]byte(styleSource))
	return &Handler{
		cfg:  cfg,
		page: template.Must(template.New("page").Parse(pageSource)),
		policy: fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			base64.StdEncoding.EncodeToString(sum[:])),
		turns: make(chan struct{}, maxRendering),
	}
}

// ServeHTTP answers with the page, or 403 if its user may read nothing. The query says which groups it shows: `q` is part of their grouping keys, `show` narrows
// them to what needs attention, `from` counts those before the first one.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !policy.Permit(w, policy.UserOf(r.Context()).Anything()) {
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	select {
	case h.turns <- struct{}{}:
	default:
		select {
		case h.turns <- struct{}{}:
		case <-r.Context().Done(): // whoever only closed the sending half still reads
			http.Error(w, "other pages are being made, ask again", http.StatusServiceUnavailable)
			return
		}
	}
	var page bytes.Buffer
	seen, err := h.visibleTo(r)
	if err == nil {
		err = h.page.Execute(&page, h.newPage(readQuery(r.URL.Query()), seen, time.Now()))
	}
	<-h.turns // before writing: a reader that stalls costs its page and nobody else's turn
	if err != nil {
		h.cfg.Logger.Error("the page could not be made", slog.Any("err", err))
		http.Error(w, "the page could not be made, the log has the reason", http.StatusInternalServerError)
		return
	}
	w.Write(page.Bytes())
}
