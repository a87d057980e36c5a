package tunnelserver

import (
	"slices"
	"sync"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// outboundEvents bounds the events that wait for an agent: more than its scrapes at once and their cancellations, so that
// only an agent that does not read fills it.
const outboundEvents = 96

// outbox sends a session's events, one after the other and in their order. It has a goroutine only while there is
// something to send: most sessions of a fleet are silent. Nothing goes before the welcome, though a session can be asked for
// scrapes from when it is registered, which is before.
type outbox struct {
	mu      sync.Mutex
	waiting []*relayv1.AttachResponse // guarded by mu
	opened  bool                      // guarded by mu; the welcome is sent or the first of those that wait
	sending bool                      // guarded by mu; a goroutine is at it
	closed  bool                      // guarded by mu
}

// put queues an event and reports whether there was room. It never waits.
func (o *outbox) put(ss *session, event *relayv1.AttachResponse) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.waiting) >= outboundEvents {
		return false
	}
	o.waiting = append(o.waiting, event)
	o.start(ss)
	return true
}

// open sends the welcome, then what has been waiting for it.
func (o *outbox) open(ss *session, welcome *relayv1.AttachResponse) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.waiting, o.opened = slices.Insert(o.waiting, 0, welcome), true
	o.start(ss)
}

// start begins to send if nobody is at it. The caller holds mu.
func (o *outbox) start(ss *session) {
	if o.sending || !o.opened {
		return
	}
	o.sending = true
	ss.server.senders.Go(func() { o.send(ss) })
}

// send sends what waits until nothing does. An agent that does not read holds it up until its connection is closed.
func (o *outbox) send(ss *session) {
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 || o.closed {
			o.waiting, o.sending = nil, false
			o.mu.Unlock()
			return
		}
		next := o.waiting[0]
		o.waiting = o.waiting[1:]
		o.mu.Unlock()
		if ss.stream.Send(next) != nil {
			o.close() // the stream is gone; receiving ends as well
		}
	}
}

// close drops what waits, and what comes.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.waiting = true, nil
}
