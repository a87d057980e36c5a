package queryapi

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/policy"
)

const (
	// defaultConcurrent is MetricsConfig.MaxConcurrent where that is not set.
	defaultConcurrent = 8
	// turnWait is how long a question waits for its turn.
	turnWait = 10 * time.Second
	// pieceBytes is how much of an answer is held at once.
	pieceBytes = 32 << 10
)

var errBusy = errors.New("too many questions about all groups are being answered at once, ask again")

// Store is where the groups are.
type Store interface {
	// Snapshot returns the present state. It must not block for long.
	Snapshot() *groupstore.View
	// Select returns the present state of those groups for which keep is true. It may take as long as ctx lives.
	Select(ctx context.Context, keep func(groupstore.Group) bool) (*groupstore.View, error)
}

// MetricsConfig is what [Metrics] works with.
type MetricsConfig struct {
	// Store has the groups. Required.
	Store Store
	// MaxConcurrent is how many answers may hold a state of the store at once (S13); 0 stands for 8. Others wait for their
	// turn, at most 10 s, and are then answered 503.
	MaxConcurrent int
}

// Metrics serves GET /api/v1/metrics: all groups that the request's user may read, in the order of their canonical keys.
//
// The answer is written group by group. Whoever takes nothing of it for 30 s is let go, and an answer that cannot be
// finished breaks the connection off, so that it does not pass for a whole one.
func Metrics(cfg MetricsConfig) http.HandlerFunc {
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = defaultConcurrent
	}
	turns := httpserver.NewTurns(cfg.MaxConcurrent)
	return Shared(func(w http.ResponseWriter, r *http.Request) {
		user := policy.UserOf(r.Context())
		if !permit(w, user.ReadSome()) {
			return
		}
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "application/json")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), turnWait)
		defer cancel()
		turn := turns.Take(ctx, w)
		if turn == nil {
			respondError(w, http.StatusServiceUnavailable, "unavailable", errBusy)
			return
		}
		defer turn.End()
		view, err := readable(r, cfg.Store, user)
		if err != nil {
			respondError(w, http.StatusServiceUnavailable, "unavailable", errLongSelection)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := writeGroups(turn, view, user.Reading()); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

// readable returns the groups that a user may read.
func readable(r *http.Request, store Store, user *policy.User) (*groupstore.View, error) {
	if user == nil {
		return store.Snapshot(), nil
	}
	ctx, cancel := context.WithTimeout(httpserver.Outlasting(r.Context()), selectTime)
	defer cancel()
	return store.Select(ctx, func(g groupstore.Group) bool { return user.Sees(g.Key()) })
}

func writeGroups(w *httpserver.Turn, view *groupstore.View, sees func(grouping.Key) bool) error {
	out := bufio.NewWriterSize(w, pieceBytes)
	piece := []byte(`{"status":"success","data":[`)
	first := true
	for g := range view.Groups() {
		if !first {
			piece = append(piece, ',')
		}
		first = false
		e := groupEncoder{out: out, piece: piece, sees: sees}
		e.group(g)
		if e.err != nil {
			return e.err
		}
		piece = e.piece[:0]
	}
	if _, err := out.Write(append(piece, "]}"...)); err != nil {
		return err
	}
	return out.Flush()
}
