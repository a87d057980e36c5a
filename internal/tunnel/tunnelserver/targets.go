package tunnelserver

import (
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/target"
	"pushrelay/internal/tunnel"
)

// announcedTargets is the targets that the agent of a session announces, on their way to the registry.
type announcedTargets struct {
	parts   tunnel.TargetCollector
	refused string        // why the last set was refused; empty if it was not
	sets    *rate.Limiter // of whole sets: each is looked through, taken under the registry's lock, and written to its file
	lines   *rate.Limiter // of the log
}

// An agent announces when its configuration or its target files change. One that does so more often is held up: nothing more of its
// stream is read meanwhile, which leaves its own heartbeats late by setEvery at most.
const (
	setEvery = time.Second
	setBurst = 20
)

func newAnnouncedTargets() announcedTargets {
	return announcedTargets{sets: rate.NewLimiter(rate.Every(setEvery), setBurst), lines: rate.NewLimiter(rate.Every(time.Minute), 3)}
}

// helloTargets returns the targets of a hello that has all of them, so that the agent is never known without.
func (ss *session) helloTargets(hello *relayv1.Hello) (set target.Set, announced bool) {
	part := hello.GetTargets()
	if part == nil || part.GetMore() {
		return target.Set{}, false
	}
	set, err := ss.wholeSet(part)
	if err == nil {
		err = set.Validate()
	}
	ss.noteTargets(err)
	return set, err == nil
}

// takeTargets collects the parts of a set and announces it when it is whole. A set that is too large or has something
// wrong in it changes nothing.
func (ss *session) takeTargets(part *relayv1.TargetSet) {
	if part.GetMore() {
		ss.targets.parts.Add(part)
		return
	}
	if ss.targets.sets.Wait(ss.ctx) != nil {
		return // the session has ended
	}
	set, err := ss.wholeSet(part)
	if err == nil {
		err = ss.attachment.SetTargets(set)
	}
	ss.noteTargets(err)
}

// wholeSet returns the set that ends with this part.
func (ss *session) wholeSet(last *relayv1.TargetSet) (target.Set, error) {
	set, clamped, err := ss.targets.parts.Take(last)
	if err == nil {
		ss.server.metrics.clamped.Add(float64(clamped))
	}
	return set, err
}

// noteTargets counts a set that was refused, and says why: once, for as long as the reason is the same.
func (ss *session) noteTargets(err error) {
	if err == nil {
		ss.targets.refused = ""
		return
	}
	ss.server.metrics.refusedSets.Inc()
	reason := tunnel.Text(err.Error())
	if reason == ss.targets.refused || !ss.targets.lines.Allow() {
		return
	}
	ss.targets.refused = reason
	ss.server.log(slog.LevelWarn, ss.agent, "agent announced targets that cannot be, the earlier ones stay", slog.String("err", reason))
}
