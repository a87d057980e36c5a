package queryapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"pushrelay/internal/change"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/policy"
	"pushrelay/internal/relayapi"
	"pushrelay/internal/selector"
)

const (
	// deletersAtOnce is how many groups are being deleted at once: enough for the log to write many with one sync, few beside the pushes that
	// wait for the same lock.
	deletersAtOnce = 64
	// namedGroups is how many groups an answer to DELETE names.
	namedGroups = 100
)

const agentsNote = "groups of agents come back with the next push of the agent to them, and when the relay has lost its data: delete them at the agent, or end what pushes them"

// What became of a group that was selected.
const (
	left    = iota // not tried, or in doubt
	changed        // not deleted, because it is another one by now
	deleted
)

// Delete serves DELETE: it deletes the groups that are selected, of those that the request's user may delete, each if it is as it was when it was selected, by one change for each group.
// Once begun it is brought to its end, whether or not anybody waits; one such request is under way at once.
func (h *Groups) Delete(w http.ResponseWriter, r *http.Request) {
	Shared(func(w http.ResponseWriter, r *http.Request) {
		user := policy.UserOf(r.Context())
		if !permit(w, user.DeleteSome()) {
			return
		}
		q, err := parseGroupsQuery(r)
		if err == nil {
			if err = q.chosen.CheckSpecific(); err != nil {
				err = fmt.Errorf("%s: %w", selector.Parameter, err)
			}
		}
		if err != nil {
			respondError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		if !q.dryRun {
			if !h.begin(r.Context()) {
				respondError(w, http.StatusServiceUnavailable, "unavailable", errDeleting)
				return
			}
			defer func() { <-h.deleting }()
		}
		turn, view := h.selected(w, r, q, user.MayDelete)
		if turn == nil {
			return
		}
		turn.End() // the state is held by the one deletion, or for a moment
		if q.dryRun {
			respond(w, h.deletion(view, nil))
			return
		}
		became, err := h.delete(httpserver.Outlasting(r.Context()), view)
		done := h.deletion(view, became)
		if err != nil {
			err = fmt.Errorf("%d of %d groups were deleted, and then no more: %w; what is deleted stays so, ask again for the others", done.Deleted, done.Selected, err)
			write(w, http.StatusServiceUnavailable, answer{Status: "error", Data: done, ErrorType: "unavailable", Error: err.Error()})
			return
		}
		respond(w, done)
	})(w, r)
}

// DeleteOf deletes all groups of an agent, each if it is as it was when it was looked for, and says what became of them, also if it fails half-way.
func (h *Groups) DeleteOf(ctx context.Context, agent string) (relayapi.Deletion, error) {
	if h.cfg.AgentLabel == "" {
		return relayapi.Deletion{}, errors.New("groups of agents cannot be told from others: --push.agent-label is empty")
	}
	return h.deleteWhere(ctx, func(g groupstore.Group) bool { return h.agentOf(g.Key()) == agent })
}

// DeleteSeen deletes groups by their canonical keys, each if it has the version that it was seen with, and says what became of them, also if it
// fails half-way. Of those that are not selected another version is in the store, or none.
func (h *Groups) DeleteSeen(ctx context.Context, versions map[string]uint64) (relayapi.Deletion, error) {
	return h.deleteWhere(ctx, func(g groupstore.Group) bool {
		version, seen := versions[g.Key().Canonical()]
		return seen && version == g.Version()
	})
}

func (h *Groups) deleteWhere(ctx context.Context, means func(groupstore.Group) bool) (relayapi.Deletion, error) {
	if !h.begin(ctx) {
		return relayapi.Deletion{}, errDeleting
	}
	defer func() { <-h.deleting }()
	view, err := h.cfg.Store.Select(ctx, means)
	if err != nil {
		return relayapi.Deletion{}, err
	}
	became, err := h.delete(ctx, view)
	done := h.deletion(view, became)
	if err != nil {
		return done, fmt.Errorf("%d of %d groups were deleted, and then no more: %w", done.Deleted, done.Selected, err)
	}
	return done, nil
}

// begin waits until no other deletion is under way; false if that does not end in time. If there is none it begins also for a request whose
// context has ended: so does that of whoever closed the sending half, and still reads.
func (h *Groups) begin(ctx context.Context) bool {
	select {
	case h.deleting <- struct{}{}:
		return true
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	select {
	case h.deleting <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// delete deletes the groups of a view and returns what became of each. After the first error it begins with no further one. Its goroutines have
// ended when it returns.
func (h *Groups) delete(ctx context.Context, view *groupstore.View) ([]uint8, error) {
	became := make([]uint8, view.Len())
	type one struct {
		index int
		group groupstore.Group
	}
	todo := make(chan one)
	var failure atomic.Pointer[error]
	var deleters sync.WaitGroup
	for range min(deletersAtOnce, view.Len()) {
		deleters.Go(func() {
			for o := range todo {
				result, err := h.deleteOne(ctx, o.group)
				if became[o.index] = result; err != nil {
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	i := 0
	for g := range view.Groups() {
		if ctx.Err() != nil || failure.Load() != nil {
			break
		}
		todo <- one{i, g}
		i++
	}
	close(todo)
	deleters.Wait()
	if err := failure.Load(); err != nil {
		return became, *err
	}
	if i < view.Len() {
		return became, fmt.Errorf("the relay is stopping: %w", context.Cause(ctx))
	}
	return became, nil
}

func (h *Groups) deleteOne(ctx context.Context, g groupstore.Group) (uint8, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	o := h.cfg.Store.ApplyBodiless(ctx, &change.Change{Operation: change.Delete, Key: g.Key(), At: time.Now(), Version: g.Version()})
	switch {
	case o.Kind == change.Changed:
		return changed, nil
	case !o.IsTaken():
		return left, errors.New(o.Detail)
	default:
		return deleted, nil
	}
}

// deletion says what became of the groups of a view, or what would become of them if nothing has.
func (h *Groups) deletion(view *groupstore.View, became []uint8) relayapi.Deletion {
	d := relayapi.Deletion{DryRun: became == nil, Selected: view.Len(), Groups: []map[string]string{}}
	i := 0
	for g := range view.Groups() {
		is := uint8(deleted)
		if became != nil {
			is = became[i]
		}
		i++
		switch is {
		case changed:
			d.Changed++
		case deleted:
			d.Deleted++
			if len(d.Groups) < namedGroups {
				d.Groups = append(d.Groups, labelsOf(g.Key()))
			}
			if h.agentOf(g.Key()) != "" {
				d.OfAgents, d.Note = d.OfAgents+1, agentsNote
			}
		}
	}
	d.Omitted = d.Deleted - len(d.Groups)
	return d
}
