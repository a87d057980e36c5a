package web

import (
	"net/http"
	"time"

	"github.com/prometheus/common/route"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/webpage"
)

// targetContent is what the page of one target shows: the whole way from Prometheus to it.
type targetContent struct {
	targetRow

	Mark, Verdict  string
	Way            []step
	Advice         []advice
	Path, Scheme   string // of its metrics, at the target
	Labels         []option
	Interval       string
	MetricsPath    string // of it, at the relay
	ListedUntil    webpage.Moment
	RelayCommand   string // asks for it as Prometheus does
	MachineCommand string // asks for it at the agent's machine
}

// A step is one part of the way.
type step struct {
	Mark  string // as the class of its sign: empty for one that is well
	Name  string
	Words string
	Said  string         // what somebody else has said
	When  webpage.Moment // of what the words are about
	More  string
}

// An advice is something to try.
type advice struct {
	Words   string
	Command string // empty for none
}

func (h *Handler) showTarget(w http.ResponseWriter, r *http.Request) {
	agent, name := route.Param(r.Context(), "agent"), route.Param(r.Context(), "target")
	h.show(w, r, 3, func(rights *Rights, now time.Time) webpage.Page {
		a, known := h.agentFor(rights, agent)
		if !known {
			return missing("No agent of this name is known to this relay.")
		}
		for i := range a.Targets {
			if t := &a.Targets[i]; t.Name == name {
				return webpage.Page{Template: "target", Title: "Target " + t.Job + " " + t.Instance, Place: "Targets", Topics: topicAgents, Content: h.newTarget(&a, t, h.baseURL(r), now)}
			}
		}
		return missing("The agent announces no target of this name. It may have been renamed, or taken out of the agent's configuration.")
	})
}

func (h *Handler) newTarget(a *roster.Agent, t *roster.Target, base string, now time.Time) targetContent {
	c := targetContent{
		targetRow: newTargetRow(a, t, now), Path: t.MetricsPath, Scheme: t.Scheme,
		ListedUntil: webpage.MomentOf(t.ListedUntil, now),
	}
	c.MetricsPath = c.Link + "/metrics"
	c.RelayCommand = "curl -i " + quoted(base+"/"+c.MetricsPath)
	c.MachineCommand = "curl -i " + quoted(t.Scheme+"://"+t.Address+t.MetricsPath)
	if t.ScrapeInterval > 0 {
		c.Interval = t.ScrapeInterval.String()
	}
	for _, l := range t.Labels {
		c.Labels = append(c.Labels, option{l.Name, l.Value})
	}
	switch c.State {
	case targetUp:
		c.Verdict = "It is up"
	case targetDown:
		c.Mark, c.Verdict = "bad", "It is down: "+reasonWords(c.Reason)
	default:
		c.Mark, c.Verdict = "still", "Nobody asks for it"
	}
	c.Way = []step{stepOfPrometheus(t, now), stepOfRelay(&c), stepOfAgent(a, t, now), stepOfConnection(a, &c), stepOfTarget(t, &c)}
	c.Advice = adviceFor(&c, base)
	return c
}

func stepOfPrometheus(t *roster.Target, now time.Time) step {
	s := step{Name: "Prometheus", Words: "asked for it", When: webpage.MomentOf(t.LastScrape, now)}
	switch {
	case t.LastScrape.IsZero():
		s.Mark, s.Words = "warn", "has not asked for it since this relay was started."
	case isSilent(t, now):
		s.Mark, s.Words = "warn", "asks for it no more: it did so last"
	}
	return s
}

// stepOfRelay says what the relay did with the request.
func stepOfRelay(c *targetContent) step {
	s := step{Name: "This relay", Words: "takes requests for it, and hands them to the agent."}
	switch scrape.Reason(c.Reason) {
	case scrape.Draining:
		s.Mark, s.Words = "bad", "was about to stop, and took no more requests."
	case scrape.AgentBusy:
		s.Mark, s.Words = "bad", "had as many requests under way at this agent as it may have at once, and took no more."
	case scrape.ParamsUnknown:
		s.Mark, s.Words, s.Said = "bad", "handed on a request with parameters that the target does not have.", c.Words
	case scrape.TargetUnreachable, scrape.TargetRedirects, scrape.BodyTooLarge, scrape.Timeout, scrape.Denied, scrape.BadStatus,
		scrape.AgentOffline, scrape.AgentUnknown, scrape.TargetUnknown, scrape.TargetAmbiguous, scrape.TargetGone:
	}
	return s
}

func stepOfAgent(a *roster.Agent, t *roster.Target, now time.Time) step {
	s := step{Name: "Agent " + a.Name}
	switch {
	case !a.Connected:
		s.Mark, s.Words, s.When = "bad", "is not connected. It was heard last", webpage.MomentOf(a.LastSeen, now)
	case !t.ListedUntil.IsZero():
		s.Mark, s.Words, s.When = "bad", "is connected, and announces this target no more. It is listed all the same, so that its end is seen, until", webpage.MomentOf(t.ListedUntil, now)
	default:
		s.Words, s.When = "is connected, and announces it. The session began", webpage.MomentOf(a.SessionStarted, now)
	}
	if a.Conflict {
		s.Mark, s.More = "bad", "Two processes use its identity, and take the session from each other."
	}
	return s
}

func stepOfConnection(a *roster.Agent, c *targetContent) step {
	s := step{Name: "Connection"}
	switch {
	case !a.Connected:
		s.Mark, s.Words = "still", "there is none."
		if a.RemoteAddress != "" {
			s.More = "The last one came from " + a.RemoteAddress + "."
		}
		return s
	case a.RoundTrip == nil:
		s.Words = "stands; its round trip was not measured yet."
	default:
		s.Words = "there and back in " + webpage.Duration(*a.RoundTrip) + "."
	}
	if a.RemoteAddress != "" {
		s.More = "The agent dials from " + a.RemoteAddress + "."
	}
	if a.RoundTrip != nil && *a.RoundTrip > time.Second {
		s.Mark = "warn"
	}
	if scrape.Reason(c.Reason) == scrape.Timeout && a.RoundTrip != nil && *a.RoundTrip > time.Second {
		s.Mark, s.More = "bad", s.More+" That is much of the time that a scrape has."
	}
	return s
}

// stepOfTarget says what the target did.
func stepOfTarget(t *roster.Target, c *targetContent) step {
	s := step{Name: "Target " + t.Address, When: c.Scraped}
	switch {
	case c.State == targetUp:
		s.Words = "answered 200 OK in " + c.Took + ", the last time"
	case t.LastScrape.IsZero():
		s.Mark, s.Words, s.When = "still", "was not asked.", webpage.Moment{}
	case c.State == targetDown && reachesTarget(scrape.Reason(c.Reason)):
		s.Mark, s.Words, s.Said = "bad", targetWords(c), c.Words
	case t.LastError == "":
		s.Mark, s.Words = "still", "was well when it was asked last,"
	default:
		s.Mark, s.Words = "still", "was not reached, the last time"
	}
	return s
}

// reachesTarget says whether a scrape that fails for a reason came as far as the target.
func reachesTarget(reason scrape.Reason) bool {
	switch reason {
	case scrape.TargetUnreachable, scrape.TargetRedirects, scrape.BodyTooLarge, scrape.Timeout, scrape.BadStatus:
		return true
	default:
		return false
	}
}

func targetWords(c *targetContent) string {
	switch scrape.Reason(c.Reason) {
	case scrape.TargetRedirects:
		return "answered with a redirect, which is not followed,"
	case scrape.BodyTooLarge:
		return "answered with more than the relay takes,"
	case scrape.Timeout:
		return "had not answered whole when the time was over,"
	case scrape.BadStatus:
		return "answered, and not with 200 OK, the last time"
	default:
		return "gave no whole answer, the last time"
	}
}

// reasonWords says what a reason means.
func reasonWords(reason string) string {
	words := map[scrape.Reason]string{
		scrape.AgentOffline:      "the agent is not connected",
		scrape.AgentBusy:         "too many scrapes of the agent at once",
		scrape.TargetGone:        "announced no more",
		scrape.TargetUnreachable: "no answer came",
		scrape.TargetRedirects:   "a redirect, which is not followed",
		scrape.BodyTooLarge:      "the answer is too large",
		scrape.Timeout:           "the time was over",
		scrape.BadStatus:         "another answer than 200 OK",
		scrape.Draining:          "the relay was about to stop",
		scrape.Denied:            "the agent does not let it be asked for",
		scrape.ParamsUnknown:     "parameters that the target does not have",
	}[scrape.Reason(reason)]
	if words == "" {
		return reason
	}
	return words
}

// adviceFor says what to try. It is what docs/runbook.md says.
func adviceFor(c *targetContent, base string) []advice {
	switch {
	case c.State == targetSilent && c.Scraped.Exact == "":
		return []advice{
			{Words: "Does Prometheus find it? Its job wants http_sd_configs with this relay's list:", Command: "curl " + quoted(base+"/sd/targets")},
			{Words: "Ask as Prometheus does:", Command: c.RelayCommand},
		}
	case c.State == targetSilent:
		return []advice{{Words: "Does Prometheus run, and does it still have the job? Ask as it does:", Command: c.RelayCommand}}
	case c.State == targetUp:
		return []advice{{Words: "Ask as Prometheus does:", Command: c.RelayCommand}}
	}
	again := advice{Words: "Ask again, as Prometheus does:", Command: c.RelayCommand}
	onMachine := advice{Words: "Does it answer on the agent's machine?", Command: c.MachineCommand}
	switch scrape.Reason(c.Reason) {
	case scrape.AgentOffline:
		return []advice{
			{Words: "Does the agent run, and what does it say? On its machine:", Command: "relay-agent status"},
			{Words: "What it says of this relay stands in its log, too:", Command: "journalctl -u relay-agent -n 50"},
		}
	case scrape.AgentBusy:
		return []advice{{Words: "Targets of this agent are slow, or many: look at how long each takes. The bound is --agents.max-concurrent-scrapes."}, again}
	case scrape.TargetGone:
		return []advice{{Words: "Was it taken out of the agent's configuration, or a target file? It leaves the list by itself. If not, the agent says what is wrong with its files:", Command: "relay-agent status"}}
	case scrape.TargetUnreachable:
		return []advice{onMachine, {Words: "Is the address right, as the agent has it? It is in the agent's configuration, or in a target file."}, again}
	case scrape.TargetRedirects:
		return []advice{{Words: "Give the agent the address, the scheme and the path to which it leads."}, onMachine}
	case scrape.BodyTooLarge:
		return []advice{{Words: "Let it expose less, or raise --scrape.max-body-size at the relay."}}
	case scrape.Timeout:
		return []advice{{Words: "How long does it take on the agent's machine?", Command: "time " + c.MachineCommand + " -o /dev/null"}, {Words: "Raise scrape_timeout in Prometheus if it needs that long."}, again}
	case scrape.BadStatus:
		return []advice{{Words: "401 and 403 want its password, in the agent's configuration; 404 another metrics_path."}, onMachine, again}
	case scrape.Draining:
		return []advice{{Words: "Wait: the relay was being stopped."}, again}
	case scrape.ParamsUnknown:
		return []advice{{Words: "Take the params out of Prometheus' job; the target's own are in the agent's configuration."}}
	case scrape.Denied:
		return []advice{{Words: "Put the path into proxy_paths of the job in the agent's configuration, if it may be asked for."}}
	default:
		return []advice{again}
	}
}
