package web

import (
	"strings"
	"time"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
)

// The states of a target.
const (
	targetUp     = "up"
	targetDown   = "down"
	targetSilent = "not asked" // nobody asks for it, or not any more
)

// silentAfter is how long nobody may ask for a target before that is told; targets that are asked seldom, by their own account, get longer.
const silentAfter = 5 * time.Minute

// A targetState is how a target is, and if it is down, why.
type targetState struct {
	State  string
	Reason string // as in X-Relay-Error; empty for one that is not down
	Words  string // what was said of it
}

// stateOf returns how a target is. What is true of its agent now comes before what was true when it was asked last.
func stateOf(a *roster.Agent, t *roster.Target, now time.Time) targetState {
	switch {
	case !a.Connected:
		return targetState{targetDown, string(scrape.AgentOffline), "the agent is not connected"}
	case !t.ListedUntil.IsZero():
		return targetState{targetDown, string(scrape.TargetGone), "the agent announces it no more"}
	case t.LastError != "" && isPast(a, t):
		return targetState{State: targetSilent, Words: "the agent is back, and nobody has asked since"}
	case t.LastError != "":
		reason, words, _ := strings.Cut(t.LastError, ": ")
		return targetState{targetDown, reason, words}
	case isSilent(t, now):
		return targetState{State: targetSilent}
	default:
		return targetState{State: targetUp}
	}
}

// isPast says whether the last scrape failed for what is over: the agent was away, and is there now.
func isPast(a *roster.Agent, t *roster.Target) bool {
	reason, _, _ := strings.Cut(t.LastError, ": ")
	return (reason == string(scrape.AgentOffline) || reason == string(scrape.TargetGone)) && a.SessionStarted.After(t.LastScrape)
}

func isSilent(t *roster.Target, now time.Time) bool {
	return t.LastScrape.IsZero() || now.Sub(t.LastScrape) > max(3*t.ScrapeInterval, silentAfter)
}
