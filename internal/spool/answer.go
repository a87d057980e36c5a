package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pushrelay/internal/change"
)

// answer is what a pusher waits for: the verdicts of the relays that were attached when the push arrived (T16). It is guarded
// by Spool.mu until done is closed, and then belongs to the pusher. A change that nobody waits for has a nil one.
type answer struct {
	waiting relays
	done    chan struct{} // closed once waiting is empty, or a relay refused

	refusal   *change.Outcome
	withdrawn *receipt // of the withdrawal that follows a refusal
	unchecked bool
	reasons   []string // why the push still waits, one for each relay that does not have it
}

// reply is what one relay says, if it does not refuse.
type reply struct {
	applied, unchecked bool
	detail             string
}

func (a *answer) tell(cur *cursor, r reply) {
	if a == nil || !a.waiting.has(cur.slot) || a.refusal != nil {
		return
	}
	a.waiting &^= of(cur.slot)
	a.unchecked = a.unchecked || r.unchecked
	if !r.applied {
		a.reasons = append(a.reasons, r.detail)
	}
	if a.waiting == 0 {
		close(a.done)
	}
}

func (a *answer) refuse(o *change.Outcome, withdrawn *receipt) {
	if a.refusal != nil || a.waiting == 0 {
		return
	}
	a.refusal, a.withdrawn = o, withdrawn
	close(a.done)
}

// outcome is what the pusher hears.
func (a *answer) outcome() change.Outcome {
	switch {
	case a.refusal != nil:
		return *a.refusal
	case len(a.reasons) > 0:
		return change.Outcome{Kind: change.Spooled, Detail: "kept at the agent: " + strings.Join(a.reasons, "; ")}
	case a.unchecked:
		return change.Outcome{Kind: change.Unchecked}
	default:
		return change.Outcome{Kind: change.Applied}
	}
}

// absences say why there is no session with a relay, by its address. They are guarded by Spool.mu.
type absences map[string]string

// tell says in one line why there is a session with none of the relays.
func (a absences) tell(relays []string) string {
	why := make([]string, 0, len(relays))
	for _, relay := range relays {
		why = append(why, "relay "+relay+" is not attached: "+cmp.Or(a[relay], "the first session is not open yet"))
	}
	return strings.Join(why, "; ")
}

// await waits for the verdicts on a change that was accepted.
func (s *Spool) await(ctx context.Context, c *entry) change.Outcome {
	durable, end := context.WithTimeout(ctx, s.cfg.Wait)
	defer end()
	s.mu.Lock()
	a, receipt, away := c.answer, c.durable, s.away.tell(s.cfg.Relays)
	s.mu.Unlock()
	if err := receipt.wait(durable); err != nil {
		s.stopWaiting(c, false)
		return inDoubt(err)
	}
	if a == nil {
		s.stopWaiting(c, true)
		return change.Outcome{Kind: change.Spooled, Detail: "kept at the agent: " + away}
	}
	select {
	case <-a.done:
	case <-durable.Done():
	}
	s.stopWaiting(c, true)
	if a.refusal != nil {
		withdrawn, end := context.WithTimeout(ctx, s.cfg.Wait)
		defer end()
		if err := a.withdrawn.wait(withdrawn); err != nil {
			return inDoubt(err)
		}
	}
	return a.outcome()
}

// stopWaiting says that the pusher of a change waits no more. If the change is on the disk, its receipt goes too: the change may
// be pending for a long time.
func (s *Spool) stopWaiting(c *entry, durable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if durable {
		c.durable = nil
	}
	a := c.answer
	if a == nil {
		return
	}
	c.answer = nil
	if a.refusal == nil {
		a.waiting.each(func(slot int) {
			a.reasons = append(a.reasons, fmt.Sprintf("relay %s did not answer within %s", s.cursors.slots[slot].name(), s.cfg.Wait.Round(time.Millisecond)))
		})
	}
	a.waiting = 0
	s.groups.compact(c.group)
}

func inDoubt(err error) change.Outcome {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return change.Outcome{Kind: change.Unavailable, Detail: "push is not on the agent's disk yet; whether it will be is in doubt, push again"}
	}
	return *notKept(err)
}

// notKept is the outcome of a push that cannot be written to the agent's disk.
func notKept(err error) *change.Outcome {
	return &change.Outcome{Kind: change.Unavailable, Detail: fmt.Sprintf("keeping the push at the agent: %v", err), RetryAfter: retryUnwritable}
}

// noRoom is the outcome of a push that the spool is too full for (T22).
func noRoom() *change.Outcome {
	return &change.Outcome{
		Kind: change.Unavailable, RetryAfter: retryFull,
		Detail: "the agent's spool is full (--spool.max-bytes) of what waits for relays and of the newest content of each group",
	}
}
