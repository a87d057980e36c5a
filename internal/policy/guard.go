package policy

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushrelay/internal/grouping"
	"pushrelay/internal/loglimit"
)

// A Guard asks the policy of the moment, and counts and logs what it refuses. It is safe for concurrent use; the zero value is not one.
type Guard struct {
	current  atomic.Pointer[Policy] // nil forbids nothing
	refusals *prometheus.CounterVec
	lines    *loglimit.Limiter // by who is refused
	logger   *slog.Logger
}

// NewGuard returns a guard that forbids nothing yet.
func NewGuard(logger *slog.Logger, reg prometheus.Registerer) *Guard {
	g := &Guard{lines: loglimit.New(), logger: logger, refusals: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "relay_policy_refusals_total",
		Help: "What was refused by the policy file, by what was asked for: push, delete, read, scrape, serve (targets of an agent that are left out) or admin.",
	}, []string{"action"})}
	for _, action := range actions {
		g.refusals.WithLabelValues(string(action))
	}
	return g
}

// Set puts a policy in place of the one before, for every question from now on; nil forbids nothing.
func (g *Guard) Set(p *Policy) { g.current.Store(p) }

// Policy returns the policy of the moment.
func (g *Guard) Policy() *Policy { return g.current.Load() }

// Agent returns what an agent may do now. Its refusals are for the caller to note.
func (g *Guard) Agent(name string) Agent { return g.current.Load().Agent(name) }

// Push returns why an agent may not push to a group, nil if it may.
func (g *Guard) Push(agent string, key grouping.Key) *Refusal {
	r := g.Agent(agent).Push(key)
	if r != nil {
		g.Note(r)
	}
	return r
}

// Note counts a refusal, and logs it where it is known who was refused: others could write as many lines as they like.
func (g *Guard) Note(r *Refusal) {
	g.refusals.WithLabelValues(string(r.Action)).Inc()
	if r.Who.isNobody() {
		return
	}
	who := r.Who.String()
	g.lines.Log(g.logger, slog.LevelWarn, who, "refused by the policy",
		slog.String("audit", "denied"), slog.String("who", who), slog.String("action", string(r.Action)), slog.String("what", r.What), slog.String("rule", r.Rule))
}

type userKey struct{}

// Identify returns the handler before which it is found out what the user of a request may do, for [UserOf]. The function says who that is; it
// is only asked if there are rules for users.
func (g *Guard) Identify(next http.Handler, who func(*http.Request) Identity) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := g.current.Load()
		if p == nil || p.users == nil {
			next.ServeHTTP(w, r)
			return
		}
		user := p.User(who(r))
		user.note = g.Note
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

// UserOf returns what the user of a request may do, from its context. Nil, who may do everything, is that of a relay without rules for users.
func UserOf(ctx context.Context) *User {
	user, _ := ctx.Value(userKey{}).(*User)
	return user
}

// Permit answers 403 with the refusal in one line, or returns true if there is none.
func Permit(w http.ResponseWriter, refused *Refusal) bool {
	if refused == nil {
		return true
	}
	http.Error(w, refused.Denial(), http.StatusForbidden)
	return false
}

// NoteTargets notes that targets of an agent are left out, the first of which has these names and that reason.
func (g *Guard) NoteTargets(r *Refusal, count int, names []string) {
	g.refusals.WithLabelValues(string(r.Action)).Add(float64(count))
	who := r.Who.String()
	g.lines.Log(g.logger, slog.LevelWarn, who, "targets of an agent are not listed: the policy does not let it serve them",
		slog.String("audit", "denied"), slog.String("who", who), slog.String("action", string(r.Action)), slog.Int("count", count), slog.String("targets", strings.Join(names, ", ")),
		slog.String("what", r.What), slog.String("rule", r.Rule))
}
