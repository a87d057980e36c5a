package spool

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"pushrelay/internal/history"
)

// place lets a session send, unless there is one already with another relay that has the same store under another history. Then
// one of the two relays runs on a copy: what is sent to one is not at the other, and neither may stand for both.
func (f *Feed) place(inherited uint64) {
	cur := f.cursor
	for _, other := range cur.feeds {
		if history.Diverged(other.to.History, f.to.History) {
			f.spool.cfg.Logger.Warn("two relays run on copies of one store: this one gets no pushes while the other is attached. Stop one of them, or give it an empty --data.dir",
				slog.String("addr", f.to.Relay), slog.String("other_relay", other.to.Relay), slog.String("store_id", cur.id.String()))
			cur.copies = append(cur.copies, f)
			return
		}
	}
	f.admit(inherited)
}

// promote lets the sessions with copies send once there is no other. What they lack is sent to them as to a store that was put
// back.
func (cs *cursors) promote(cur *cursor) {
	waiting := cur.copies
	cur.copies = nil
	for _, f := range waiting {
		f.cursor = cs.slots[cur.slot]
		f.place(0)
	}
}

// meetAnew begins anew with a store that has lost what it had decided: it was put back to an older copy under the same id. Like a
// store that was not met it gets all that the spool has, deletions included. It knows by the origins what it has of that.
func (f *Feed) meetAnew() {
	s, cur := f.spool, f.cursor
	s.cfg.Logger.Warn("the store of a relay was put back to an older copy, or lost what it had acknowledged: it gets all groups and deletions anew",
		slog.String("addr", cur.name()), slog.String("store_id", cur.id.String()),
		slog.String("epoch", cur.confirmed.Epoch.String()), slog.Uint64("position", cur.confirmed.Position))
	s.metrics.putBack.Inc()
	copies := cur.copies
	cur.copies = nil // so that stopSending lets none of them send
	for len(cur.feeds) > 0 {
		cur.feeds[0].stopSending("was put back to an older copy")
	}
	next := &cursor{slot: cur.slot, id: cur.id, addresses: cur.addresses, held: map[*group]*time.Timer{}, copies: copies, putBackAt: time.Now()}
	s.cursors.replace(cur, next)
	f.cursor = next
}

// confirm notes what a verdict tells of the history of the store, and returns it if it is news.
func (cur *cursor) confirm(p history.Point) history.Point {
	if p == (history.Point{}) || p.Epoch == cur.confirmed.Epoch && p.Position <= cur.confirmed.Position {
		return history.Point{}
	}
	cur.confirmed = p
	return p
}

// copyFor returns the address of a relay whose session is with a copy of the store that this session is with; empty if there is none.
func (cur *cursor) copyFor(f *Feed) string {
	if len(cur.copies) == 0 || len(cur.feeds) == 0 {
		return ""
	}
	if slices.Contains(cur.copies, f) {
		return cur.feeds[0].to.Relay
	}
	return cur.copies[0].to.Relay
}

// atCopies says for each session with a copy that it does not get a push.
func (sl *slots) atCopies() (why []string) {
	for cur := range sl.all() {
		if len(cur.feeds) == 0 {
			continue
		}
		for _, f := range cur.copies {
			why = append(why, fmt.Sprintf("relay %s runs on a copy of the store of relay %s and does not get it", f.to.Relay, cur.feeds[0].to.Relay))
		}
	}
	return why
}

// Note says in one line what people should know of the store that answers at a relay's address; empty if there is nothing.
func (st *Status) Note(relay string) string { return st.notes[relay] }

// notes returns what is to be said of the cursor's relays, by address.
func (cur *cursor) notes(to map[string]string) {
	for _, f := range cur.copies {
		if len(cur.feeds) > 0 {
			to[f.to.Relay] = fmt.Sprintf("runs on a copy of the store of relay %s and gets no pushes: stop one of the two, or give it an empty --data.dir", cur.feeds[0].to.Relay)
		}
	}
	for _, f := range cur.feeds {
		if !cur.putBackAt.IsZero() {
			to[f.to.Relay] = "its store was found to be put back to an older copy at " + cur.putBackAt.UTC().Format(time.RFC3339) + ", and got all groups and deletions anew"
		}
	}
}
