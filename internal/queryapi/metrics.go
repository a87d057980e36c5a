package queryapi

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"time"

	"pushrelay/internal/groupstore"
	"pushrelay/internal/httpserver"
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
}

// MetricsConfig is what [Metrics] works with.
type MetricsConfig struct {
	// Store has the groups. Required.
	Store Store
	// MaxConcurrent is how many answers may hold a state of the store at once (S13); 0 stands for 8. Others wait for their
	// turn, at most 10 s, and are then answered 503.
	MaxConcurrent int
}

// Metrics serves GET /api/v1/metrics: all groups, in the order of their canonical keys.
//
// The answer is written group by group. Whoever takes nothing of it for 30 s is let go, and an answer that cannot be
// finished breaks the connection off, so that it does not pass for a whole one.
func Metrics(cfg MetricsConfig) http.HandlerFunc {
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = defaultConcurrent
	}
	turns := httpserver.NewTurns(cfg.MaxConcurrent)
	return Shared(func(w http.ResponseWriter, r *http.Request) {
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
		w.Header().Set("Content-Type", "application/json")
		if err := writeGroups(turn, cfg.Store.Snapshot()); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
}

func writeGroups(w *httpserver.Turn, view *groupstore.View) error {
	out := bufio.NewWriterSize(w, pieceBytes)
	piece := []byte(`{"status":"success","data":[`)
	first := true
	for g := range view.Groups() {
		if !first {
			piece = append(piece, ',')
		}
		first = false
		e := groupEncoder{out: out, piece: piece}
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
