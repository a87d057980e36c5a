// Package relayapi is how commands speak to a running relay: the client of its HTTP API, and the JSON that both sides use.
//
// It knows no store and prints nothing. Start reading at [Client], [Page] and [Deletion].
package relayapi

import "time"

// GroupsPath is the route of the groups, below the relay's prefix.
const GroupsPath = "/api/v1/groups"

// Parameters of the route of the groups, beside those of package selector. Each comes at most once.
const (
	ParamPushedBefore = "pushed_before" // the last push succeeded before, or none has: RFC 3339, or seconds since 1970
	ParamState        = "state"         // one of the states
	ParamLimit        = "limit"         // how many groups at most
	ParamAfter        = "after"         // Page.Next of the page before
	ParamDryRun       = "dry_run"       // true: nothing is deleted
)

// The states that can be asked for.
const (
	StateQuarantined = "quarantined" // the group, or a family of it, is kept and not exposed
	StateFailed      = "failed"      // the last push was rejected, or was that of a job that failed
	StateLate        = "late"        // the next push was expected before now
	StateExpired     = "expired"     // what was pushed is no longer true, and not exposed; a push is expected all the same
)

// States are all of them.
func States() []string { return []string{StateQuarantined, StateFailed, StateLate, StateExpired} }

// Answer is the envelope of an answer about groups.
type Answer[T any] struct {
	Status    string `json:"status"`
	Data      *T     `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

// Page is the data of GET: a part of the groups that are selected, in the order of their keys.
type Page struct {
	Groups []Group `json:"groups"`
	// Selected is how many there are on all pages.
	Selected int `json:"selected"`
	// Next is the parameter "after" of the next page; empty on the last one.
	Next string `json:"next,omitempty"`
}

// Group is what is told of a group.
type Group struct {
	// Labels are the grouping labels.
	Labels map[string]string `json:"labels"`
	// Agent is whose group it is; empty for a direct push.
	Agent string `json:"agent,omitempty"`
	// PushTime is when a push last succeeded, and FailureTime when one was last rejected; nil for never. Reason is why, as far as that is known.
	PushTime    *time.Time `json:"push_time"`
	FailureTime *time.Time `json:"push_failure_time"`
	Reason      string     `json:"reason,omitempty"`
	// State is the one that counts of those that hold: ok, away (not exposed, since its agent is gone), late, failed, expired.
	State string `json:"state"`
	// JobFailure is why the job failed that pushed last, by its own account; empty if it did not.
	JobFailure string `json:"job_failure,omitempty"`
	// Due is from when on the next push is late, and Expires from when on what was pushed is not exposed any more; nil for never. DeclaredBy says
	// who set that: push, or the number of a rule, or both; empty for nobody.
	Due        *time.Time `json:"due"`
	Expires    *time.Time `json:"expires"`
	DeclaredBy string     `json:"declared_by,omitempty"`
	// States are those of the states above that the group is in.
	States []string `json:"states"`
	// Series is how many exposition lines were pushed.
	Series int `json:"series"`
}

// Deletion is the data of DELETE.
type Deletion struct {
	DryRun bool `json:"dry_run"`
	// Selected is how many groups were to be deleted, and Deleted how many were, or would be.
	Selected int `json:"selected"`
	Deleted  int `json:"deleted"`
	// Changed is how many were left, because they were pushed to or deleted after they were selected.
	Changed int `json:"changed"`
	// OfAgents is how many of Deleted are of agents, and Note what becomes of those.
	OfAgents int    `json:"of_agents"`
	Note     string `json:"note,omitempty"`
	// Groups are the labels of the first of Deleted, and Omitted is how many are not named.
	Groups  []map[string]string `json:"groups"`
	Omitted int                 `json:"omitted"`
}

// TimeOrNull returns a time as JSON has it: in UTC, and null for the zero time.
func TimeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
