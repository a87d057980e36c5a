package roster

import "time"

// retireLimit is how long a session may go on answering whose process has begun another one: as long as scrapes may take by default.
const retireLimit = 2 * time.Minute

// retireIfHeard is how long ago an agent may have been heard on a session that is given that time: longer than from one heartbeat to the next, and shorter than it
// takes an agent to come back from a connection on which nothing passes any more. Whoever waits for an answer on that is told at once.
const retireIfHeard = 30 * time.Second

// retired is a session that is over but for the scrapes that it was asked for before. Its process has begun another one, with a renewed certificate for
// instance, and scrapes shall not notice that.
type retired struct {
	session Session
	by      string      // where the other one came from
	limit   *time.Timer // ends it
}

// retire keeps the current session until its scrapes are answered. The caller holds mu, and makes another session the current one.
func (r *Registry) retire(a *listedAgent, by string) {
	at := a.current
	if a.retired == nil {
		a.retired = map[*Attachment]retired{}
	}
	a.retired[at] = retired{session: a.session, by: by, limit: time.AfterFunc(retireLimit, func() { r.endRetired(a, at) })}
}

// endRetired ends a session if it was retired, and has not ended yet.
func (r *Registry) endRetired(a *listedAgent, at *Attachment) {
	r.mu.Lock()
	old, there := a.leave(at)
	r.mu.Unlock()
	if there {
		old.session.Supersede(old.by)
	}
}

// leave takes a session off those that were retired. The caller holds Registry.mu.
func (a *listedAgent) leave(at *Attachment) (old retired, there bool) {
	old, there = a.retired[at]
	if there {
		old.limit.Stop()
		delete(a.retired, at)
	}
	return old, there
}
