package roster_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pushrelay/internal/roster"
	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
)

func complete(names ...string) target.Set {
	return target.Set{Targets: targets(names...), Completeness: target.Complete}
}

func incomplete(names ...string) target.Set {
	return target.Set{Targets: targets(names...), Completeness: target.Incomplete}
}

// listed returns the names of an agent's targets, with a mark at those that it announces no more.
func listed(a roster.Agent) string {
	var names []string
	for _, t := range a.Targets {
		if !t.ListedUntil.IsZero() {
			t.Name += "!"
		}
		names = append(names, t.Name)
	}
	return strings.Join(names, " ")
}

// join registers a process with a list of targets.
func join(r *roster.Registry, process byte, set target.Set) *roster.Attachment {
	return attach(r, roster.Registration{Agent: "site", Session: &session{body: "m 1\n"}, ProcessID: [16]byte{process}, Targets: set, HasTargets: true})
}

// Targets go at once only if their own process says so knowingly, or if somebody says expressly that there are none (T24).
func TestTargetsGoKnowingly(t *testing.T) {
	for name, tt := range map[string]struct {
		process byte // that announces after process 1, which had a and b
		set     target.Set
		want    string
		later   string // after five minutes
	}{
		"same process, fewer":                {1, complete("a"), "a", "a"},
		"same process, others":               {1, complete("c"), "c", "c"},
		"same process, none":                 {1, complete(), "", ""},
		"same process, nothing known":        {1, incomplete(), "a! b!", ""},
		"same process, a file is missing":    {1, incomplete("a"), "a b!", "a"},
		"another process, fewer":             {2, complete("a"), "a b!", "a"},
		"another process, more":              {2, complete("a", "b", "c"), "a b c", "a b c"},
		"another process, others":            {2, complete("c"), "c a! b!", "c"},
		"another process, none":              {2, complete(), "", ""},
		"another process, nothing known":     {2, incomplete(), "a! b!", ""},
		"earlier agent, same process":        {1, set("a"), "a", "a"},
		"earlier agent, another process":     {2, set("a"), "a", "a"},
		"earlier agent, another, nothing":    {2, set(), "", ""},
		"another process, in another order":  {2, complete("b", "a"), "b a", "b a"},
		"another process, incomplete, other": {2, incomplete("c"), "c a! b!", "c"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, way := range []string{"hello", "later"} {
					r, _ := open(t, "")
					at := join(r, 1, complete("a", "b"))
					switch {
					case way == "hello":
						join(r, tt.process, tt.set)
					case tt.process != 1:
						at = register(r, "site", &session{}, tt.process)
						fallthrough
					default:
						if err := at.SetTargets(tt.set); err != nil {
							t.Fatal(err)
						}
					}
					if got := listed(r.Agents()[0]); got != tt.want {
						t.Errorf("%s: %q are listed, want %q", way, got, tt.want)
					}
					time.Sleep(5*time.Minute - time.Second)
					if got := listed(r.Agents()[0]); got != tt.want {
						t.Errorf("%s: %q are listed just before the end, want %q", way, got, tt.want)
					}
					time.Sleep(time.Second)
					if got := listed(r.Agents()[0]); got != tt.later {
						t.Errorf("%s: %q are listed after five minutes, want %q", way, got, tt.later)
					}
				}
			})
		})
	}
}

// Scrapes of what is announced no more say so, and whether the agent is there or not it is down.
func TestTargetsThatLeaveSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, "")
		join(r, 1, complete("a", "b"))
		at := join(r, 2, incomplete("b"))
		ask := func(name string) scrape.Reason {
			resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: name})
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return reason(t.Context(), err)
		}
		if got := ask("a"); got != scrape.TargetGone || got.Status() != http.StatusGone {
			t.Errorf("a target that leaves: %q %d, want %q", got, got.Status(), scrape.TargetGone)
		}
		if got := ask("b"); got != "" {
			t.Errorf("a target that stays: %q", got)
		}
		if a := r.Agents()[0]; a.Down() != 1 || !strings.Contains(a.Targets[1].LastError, "announces target \"a\" no more") {
			t.Errorf("%d targets are down: %+v", a.Down(), a.Targets)
		}
		if agent, name, err := r.Find(scrape.Match{Instance: "a:1"}); agent != "site" || name != "a" || err != nil {
			t.Errorf("as a proxy: %s, %s, %v", agent, name, err)
		}
		at.Close()
		if a := r.Agents()[0]; a.Down() != 2 {
			t.Errorf("%d targets of an agent that is away are down", a.Down())
		}
		if got := ask("a"); got != scrape.TargetGone {
			t.Errorf("while the agent is away: %q", got)
		}
		time.Sleep(5 * time.Minute)
		if got := ask("a"); got != scrape.TargetUnknown {
			t.Errorf("after five minutes: %q", got)
		}
	})
}

// What two processes take from each other in turn never goes.
func TestTargetsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := open(t, "")
		for range 10 {
			join(r, 1, complete("a", "b"))
			if got := listed(r.Agents()[0]); got != "a b" {
				t.Errorf("%q are listed", got)
			}
			time.Sleep(90 * time.Second)
			join(r, 2, incomplete())
			join(r, 2, incomplete()) // it reconnects
			if got := listed(r.Agents()[0]); got != "a! b!" {
				t.Errorf("%q are listed", got)
			}
			time.Sleep(90 * time.Second)
		}
		// What was left out before goes when its time is over, whatever is said meanwhile, unless there shall be nothing.
		at := join(r, 2, complete("c"))
		if got := listed(r.Agents()[0]); got != "c a! b!" {
			t.Errorf("%q are listed", got)
		}
		if err := at.SetTargets(complete()); err != nil || listed(r.Agents()[0]) != "" {
			t.Errorf("%q are listed, %v", listed(r.Agents()[0]), err)
		}
	})
}

// Two targets with the labels of one would be one series that is up and down by turns.
func TestNoTwoTargetsForOneSeries(t *testing.T) {
	r, _ := open(t, "")
	join(r, 1, complete("a", "b"))
	moved := complete("a2")
	moved.Targets[0].Instance = "a:1"
	join(r, 2, moved)
	if got := listed(r.Agents()[0]); got != "a2 b!" {
		t.Errorf("%q are listed", got)
	}
}

// What is on its way out is so after a restart of the relay, and an agent's process is known again.
func TestLeavingSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agents.json")
	synctest.Test(t, func(t *testing.T) {
		restart := func(what string, during func(r *roster.Registry)) {
			r, _ := open(t, file)
			run(t, r, func() { during(r) })
			t.Log(what, listed(r.Agents()[0]))
		}
		want := func(r *roster.Registry, want string) {
			t.Helper()
			if got := listed(r.Agents()[0]); got != want {
				t.Errorf("%q are listed, want %q", got, want)
			}
		}
		restart("first", func(r *roster.Registry) {
			join(r, 1, complete("a", "b"))
			join(r, 2, complete("b", "c", "d"))
			want(r, "b c d a!")
		})
		time.Sleep(2 * time.Minute)
		restart("second", func(r *roster.Registry) {
			want(r, "b c d a!")
			join(r, 2, complete("b", "c")) // reloaded while the relay was away
			want(r, "b c a!")
		})
		time.Sleep(2*time.Minute + 30*time.Second)
		restart("third", func(r *roster.Registry) {
			want(r, "b c a!")
			time.Sleep(30 * time.Second)
			want(r, "b c")
			join(r, 3, complete("b"))
			want(r, "b c!")
		})
	})
}

// However many processes come, what stays of them is bounded.
func TestLeavingIsBounded(t *testing.T) {
	r, _ := open(t, "")
	for process := range byte(4) {
		var names []string
		for i := range 12_000 {
			names = append(names, fmt.Sprintf("p%d-%d", process, i))
		}
		join(r, process, incomplete(names...))
	}
	if n := len(r.Agents()[0].Targets); n != 12_000+20_000 {
		t.Errorf("%d targets are listed", n)
	}
	if name := r.Agents()[0].Targets[12_000].Name; name != "p2-0" {
		t.Errorf("the first that leaves is %s, want one of the last process", name)
	}
}

// What Prometheus makes of an answer is what the registry says of it.
func TestStatusOfTheAnswerIsNoted(t *testing.T) {
	for status, want := range map[int]string{
		200: "",
		204: "bad_status: the target answered 204 No Content, and only 200 OK counts as up",
		302: "bad_status: the target answered 302 Found, and only 200 OK counts as up",
		401: "bad_status: the target answered 401 Unauthorized, and only 200 OK counts as up",
		599: "bad_status: the target answered 599, and only 200 OK counts as up",
	} {
		r, _ := open(t, "")
		attach(r, roster.Registration{Agent: "site", Session: &session{status: status, body: "words"}, Targets: complete("a"), HasTargets: true})
		for _, read := range []bool{true, false} { // Prometheus does not read an answer that it does not want
			resp, err := r.Scrape(t.Context(), &scrape.Request{Agent: "site", Target: "a"})
			if err != nil {
				t.Fatal(err)
			}
			if read || status == 200 {
				io.Copy(io.Discard, resp.Body)
			}
			resp.Body.Close()
			a := r.Agents()[0]
			got := a.Targets[0]
			if got.LastStatus != status || got.LastError != want || (a.Down() == 1) != (want != "") {
				t.Errorf("%d: status %d, error %q, %d down, want error %q", status, got.LastStatus, got.LastError, a.Down(), want)
			}
		}
	}
}
