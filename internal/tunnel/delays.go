package tunnel

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// What a relay may have an agent wait, whoever runs the relay by now. A longer wait would keep the agent from it, and from what it has for the
// agent's owner, after it is the owner's again; a shorter one would have the agent busy with nothing else.
const (
	// MaxSessionDelay bounds what a relay adds to the wait before the next session.
	MaxSessionDelay = 5 * time.Minute
	// MinChangeDelay and MaxChangeDelay bound the wait before a change is sent again that the relay wants later.
	MinChangeDelay = 100 * time.Millisecond
	MaxChangeDelay = 5 * time.Minute
	// MaxScrapeTime bounds how long a scrape may take that a relay asks for.
	MaxScrapeTime = time.Hour
	// AttachBurst is how many attempts an agent begins within AttachWindow at most, whatever ends them.
	AttachBurst  = 10
	AttachWindow = 10 * time.Second
)

// SessionDelay returns what a relay that ends or refuses a session adds to the agent's own wait. The error is the relay's: the delay is none that
// could be meant, and the nearest that may be is returned.
func SessionDelay(end *relayv1.SessionEnd) (time.Duration, error) {
	return delay("before the next session", end.GetRetryAfter(), 0, MaxSessionDelay)
}

// ChangeDelay returns how long a change waits that a relay wants later; 0 if the relay does not say. The error is as that of [SessionDelay].
func ChangeDelay(later *relayv1.Later) (time.Duration, error) {
	return delay("before a change comes again", later.GetRetryAfter(), MinChangeDelay, MaxChangeDelay)
}

// delay brings a delay within its bounds; 0 is none.
func delay(what string, asked *durationpb.Duration, least, most time.Duration) (time.Duration, error) {
	if asked == nil {
		return 0, nil
	}
	d := asked.AsDuration() // the nearest that there is
	bounded := min(max(d, least), most)
	if d < 0 || d == math.MaxInt64 || !asked.IsValid() {
		return bounded, fmt.Errorf("it asks for a delay of %d s and %d ns %s, want 0 s to %s: %s is taken", asked.GetSeconds(), asked.GetNanos(), what, most, bounded)
	}
	return bounded, nil
}
