package queryapi

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/policy"
	"pushrelay/internal/relayapi"
)

const (
	// defaultPage is how many groups a page has if its reader does not say, and maxPage the most that it may say.
	defaultPage = 100
	maxPage     = 10_000
	// selectTime is how long groups may be looked for.
	selectTime = 10 * time.Second
)

var (
	errLongSelection = errors.New("selectors (match[], or those of the policy file) took longer than 10s: use shorter regular expressions")
	errDeleting      = errors.New("groups are being deleted by another request, ask again when it is done")
)

// GroupStore is what the API needs of a store to find groups and to delete them.
type GroupStore interface {
	// Select returns the present state of those groups for which keep is true. It may take as long as ctx lives.
	Select(ctx context.Context, keep func(groupstore.Group) bool) (*groupstore.View, error)
	// ApplyBodiless decides a change without a body. It is safe for concurrent use.
	ApplyBodiless(ctx context.Context, c *change.Change) change.Outcome
}

// GroupsConfig is what [NewGroups] works with.
type GroupsConfig struct {
	// Store has the groups. Required.
	Store GroupStore
	// AgentLabel is the grouping label of agents' groups; empty for none.
	AgentLabel string
	// MaxConcurrent is how many questions may hold a state of the store at once; 0 stands for 8. Others wait, at most 10 s.
	MaxConcurrent int
	// Timeout is how long one group may take to be deleted for good. Required.
	Timeout time.Duration
}

// Groups answers questions about the groups that selectors match (L9). It is safe for concurrent use and starts nothing that outlives a request.
type Groups struct {
	cfg      GroupsConfig
	turns    *httpserver.Turns
	deleting chan struct{} // has the one deletion that is under way
}

// NewGroups returns the handlers of the route of the groups.
func NewGroups(cfg GroupsConfig) *Groups {
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = defaultConcurrent
	}
	return &Groups{cfg: cfg, turns: httpserver.NewTurns(cfg.MaxConcurrent), deleting: make(chan struct{}, 1)}
}

// List serves GET: a page of the groups that are selected, of those that the request's user may read.
func (h *Groups) List(w http.ResponseWriter, r *http.Request) {
	Shared(func(w http.ResponseWriter, r *http.Request) {
		user := policy.UserOf(r.Context())
		if !permit(w, user.ReadSome()) {
			return
		}
		q, err := parseGroupsQuery(r)
		if err != nil {
			respondError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		turn, view := h.selected(w, r, q, user.Sees)
		if turn == nil {
			return
		}
		defer turn.End()
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodHead {
			return
		}
		if err := h.writePage(turn, view, q, user.Reading()); err != nil {
			panic(http.ErrAbortHandler)
		}
	})(w, r)
}

// selected returns the groups that a query means and its user may have, and the turn that holds them. Without a turn the request was answered.
func (h *Groups) selected(w http.ResponseWriter, r *http.Request, q *groupsQuery, may func(grouping.Key) bool) (*httpserver.Turn, *groupstore.View) {
	ctx, cancel := context.WithTimeout(r.Context(), turnWait)
	defer cancel()
	turn := h.turns.Take(ctx, w)
	if turn == nil {
		respondError(w, http.StatusServiceUnavailable, "unavailable", errBusy)
		return nil, nil
	}
	selecting, end := context.WithTimeout(httpserver.Outlasting(r.Context()), selectTime)
	defer end()
	view, err := h.cfg.Store.Select(selecting, func(g groupstore.Group) bool { return q.means(g) && may(g.Key()) })
	if err != nil {
		turn.End()
		respondError(w, http.StatusServiceUnavailable, "unavailable", errLongSelection)
		return nil, nil
	}
	return turn, view
}

// writePage writes a relayapi.Page, group by group.
func (h *Groups) writePage(w *httpserver.Turn, view *groupstore.View, q *groupsQuery, sees func(grouping.Key) bool) error {
	out := bufio.NewWriterSize(w, pieceBytes)
	out.WriteString(`{"status":"success","data":{"groups":[`) //nolint:errcheck // Flush returns the first error.
	written, next := 0, ""
	var last grouping.Key
	for g := range view.Groups() {
		if g.Key().Canonical() <= q.after {
			continue
		}
		if written == q.limit {
			next = base64.RawURLEncoding.EncodeToString([]byte(last.Canonical()))
			break
		}
		if written > 0 {
			out.WriteByte(',') //nolint:errcheck // As above.
		}
		text, err := json.Marshal(h.groupJSON(g, sees))
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
		written, last = written+1, g.Key()
	}
	tail := strconv.AppendInt([]byte(`],"selected":`), int64(view.Len()), 10)
	if next != "" {
		tail = appendString(append(tail, `,"next":`...), next)
	}
	out.Write(append(tail, "}}"...)) //nolint:errcheck // As above.
	return out.Flush()
}

func (h *Groups) groupJSON(g groupstore.Group, sees func(grouping.Key) bool) relayapi.Group {
	return relayapi.Group{
		Labels: labelsOf(g.Key()), Agent: h.agentOf(g.Key()), PushTime: relayapi.TimeOrNull(g.PushTime()), FailureTime: relayapi.TimeOrNull(g.FailureTime()),
		Reason: change.Readable(g.FailureReason(), sees), State: g.State().String(), JobFailure: g.JobFailure(), Due: relayapi.TimeOrNull(g.Due()), Expires: relayapi.TimeOrNull(g.Expires()),
		DeclaredBy: g.DeclaredBy(), States: statesOf(g), Series: g.Series(),
	}
}

func labelsOf(key grouping.Key) map[string]string {
	labels := map[string]string{}
	for _, l := range key.Labels() {
		labels[l.Name] = l.Value
	}
	return labels
}

// agentOf returns the agent whose group it is; empty for none.
func (h *Groups) agentOf(key grouping.Key) string {
	agent, _ := key.Get(h.cfg.AgentLabel)
	return agent
}

// states says of each state whether a group is in it.
var states = map[string]func(groupstore.Group) bool{
	relayapi.StateFailed:      groupstore.Group.HasFailed,
	relayapi.StateLate:        groupstore.Group.IsLate,
	relayapi.StateExpired:     groupstore.Group.HasExpired,
	relayapi.StateQuarantined: groupstore.Group.HasQuarantined,
}

func statesOf(g groupstore.Group) []string {
	in := []string{}
	for name, is := range states {
		if is(g) {
			in = append(in, name)
		}
	}
	slices.Sort(in)
	return in
}
