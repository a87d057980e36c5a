package roster

import (
	"fmt"
	"strings"
	"time"

	"pushrelay/internal/target"
)

// Terms are what one agent may have of the registry.
type Terms struct {
	// MaxConcurrentScrapes bounds its scrapes at once.
	MaxConcurrentScrapes int
	// Withhold returns why a target of a job is not listed, although the agent announces it, where so many of the agent are listed already; nil
	// if it is. A nil function withholds none.
	Withhold func(job string, listed int) error
}

// Withheld are targets that an agent announces and that are not listed. The zero value is none.
type Withheld struct {
	// Count is how many there are, Names the first of them.
	Count int
	Names []string
	// Why is why the first one is not listed.
	Why error
}

// maxNamed is how many targets are named where something is said of many.
const maxNamed = 5

// text is the same for two that say the same; empty for none.
func (w Withheld) text() string {
	if w.Count == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s %v", w.Count, strings.Join(w.Names, " "), w.Why)
}

func (w *Withheld) add(name string, why error) {
	if w.Count == 0 {
		w.Why = why
	}
	if w.Count++; len(w.Names) < maxNamed {
		w.Names = append(w.Names, name)
	}
}

// withholding is what is withheld of an agent's targets. It is guarded by Registry.mu.
type withholding struct {
	why   map[string]error // by name of the target; nil for none
	now   Withheld         // those that the agent announces
	noted string           // what Config.Withheld was told last
	told  string           // what the session was told
}

// withhold finds out which targets of an agent are listed, in the agent's order. The caller holds mu, and has taken them out of the hosts.
func (r *Registry) withhold(a *listedAgent) {
	a.withheld.why, a.withheld.now = nil, Withheld{}
	refuses := r.cfg.Terms(a.Name).Withhold
	if refuses == nil {
		return
	}
	listed := 0
	for _, name := range a.order {
		t := a.targets[name]
		why := refuses(t.Job, listed)
		if why == nil {
			listed++
			continue
		}
		if a.withheld.why == nil {
			a.withheld.why = map[string]error{}
		}
		a.withheld.why[name] = why
		if t.ListedUntil.IsZero() {
			a.withheld.now.add(name, why)
		}
	}
}

// A note is what Config.Withheld is to be told, once the registry is not locked any more. The zero value is nothing.
type note struct {
	agent string
	what  Withheld
}

// tellWithheld tells the agent's session what is withheld, if that is other than it was told, and returns the note of it. The caller holds mu, so
// that what is told last is what holds.
func (a *listedAgent) tellWithheld() note {
	text := a.withheld.now.text()
	if a.session != nil && text != a.withheld.told {
		a.withheld.told = text
		a.session.TellWithheld(a.withheld.now)
	}
	if text == a.withheld.noted {
		return note{}
	}
	a.withheld.noted = text
	return note{a.Name, a.withheld.now}
}

// takeNote hands on a note. The caller does not hold mu.
func (r *Registry) takeNote(n note) {
	if n.what.Count > 0 && r.cfg.Withheld != nil {
		r.cfg.Withheld(n.agent, n.what)
	}
}

// Review asks for the terms of all agents anew: they are others from now on.
func (r *Registry) Review() {
	var notes []note
	r.mu.Lock()
	for _, a := range r.agents {
		r.byHost.remove(a.Name, a.targets)
		r.withhold(a)
		r.byHost.add(a)
		notes = append(notes, a.tellWithheld())
	}
	r.changes.Add(1)
	r.mu.Unlock()
	for _, n := range notes {
		r.takeNote(n)
	}
}

// MaxConcurrentScrapes returns how many scrapes of an agent there may be at once.
func (r *Registry) MaxConcurrentScrapes(agent string) int {
	return r.cfg.Terms(agent).MaxConcurrentScrapes
}

// Target returns a target that an agent has announced, listed or not.
func (r *Registry) Target(agent, name string) (t target.Target, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.agents[agent]
	if a == nil || a.targets[name] == nil || a.targets[name].isOver(time.Now()) {
		return target.Target{}, false
	}
	return a.targets[name].Target, true
}

// Visible returns those of the agents, and of their targets, that somebody sees; a nil target stands for the agent by itself. An agent is there
// if it is seen itself, or a target of it is. A nil function sees all.
func Visible(agents []Agent, sees func(agent string, t *target.Target) bool) []Agent {
	if sees == nil {
		return agents
	}
	out := make([]Agent, 0, len(agents))
	for _, a := range agents {
		targets := make([]Target, 0, len(a.Targets))
		for i := range a.Targets {
			if sees(a.Name, &a.Targets[i].Target) {
				targets = append(targets, a.Targets[i])
			}
		}
		if a.Targets = targets; len(targets) > 0 || sees(a.Name, nil) {
			out = append(out, a)
		}
	}
	return out
}
