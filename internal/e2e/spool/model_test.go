//go:build linux

package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
)

// A groupState is what one group holds: the values of its three families, 0 for none. PUT sets the first two together.
type groupState struct {
	there   bool
	a, b, c int
}

// A modelGroup is one group of a job with all that a relay may hold of it, once nothing waits at the agent any more.
// Acknowledged requests leave one state. A request without an answer, or with one that leaves it in doubt, may have happened:
// both states are possible until a PUT or DELETE is acknowledged.
type modelGroup struct {
	n        int
	possible map[groupState]bool
}

// A modelRequest is a push, and what it makes of a group.
type modelRequest struct {
	method, body string
	after        func(groupState) groupState
}

// seriesOfFamily is how many series each family of a PUT has: half of a PUT must not pass for one.
const seriesOfFamily = 8

func putBody(n int) string {
	var b strings.Builder
	for i := range seriesOfFamily {
		fmt.Fprintf(&b, "outage_a{i=\"%d\"} %d\noutage_b{i=\"%d\"} %d\n", i, n, i, n)
	}
	return b.String()
}

func postBody(family string, n, series int) string {
	var b strings.Builder
	for i := range series {
		fmt.Fprintf(&b, "outage_%s{i=\"%d\"} %d\n", family, i, n)
	}
	return b.String()
}

// A spoolJob is a job beside the agent that pushes to groups of its own, one request after the other. Its values only grow, so
// that it is plain which of two states is newer.
type spoolJob struct {
	name   string
	url    string // of the agent
	random *rand.Rand
	client *http.Client
	// pleasing jobs push nothing that a relay refuses.
	pleasing bool

	next   int
	groups []*modelGroup

	asked    *asked
	mistakes []error
}

// asked is what came of the requests of all jobs, and how many wait for their answer.
type asked struct {
	applied atomic.Int64 // 200, or 202 to a DELETE: every attached relay has it
	spooled atomic.Int64 // 202: it waits at the agent
	refused atomic.Int64 // 400
	inDoubt atomic.Int64
	deletes atomic.Int64 // of those that were acknowledged
	waiting atomic.Int64
}

const groupsOfJob = 3

func newSpoolJob(name, url string, seed uint64, asked *asked) *spoolJob {
	j := &spoolJob{
		name: name, url: url, asked: asked, random: rand.New(rand.NewPCG(seed, 1)),
		client: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
	}
	for n := range groupsOfJob {
		j.groups = append(j.groups, &modelGroup{n: n, possible: map[groupState]bool{{}: true}})
	}
	return j
}

// run pushes until the context ends.
func (j *spoolJob) run(ctx context.Context) {
	defer j.client.CloseIdleConnections()
	for ctx.Err() == nil && len(j.mistakes) == 0 {
		j.next++
		if !j.pleasing && j.random.IntN(12) == 0 {
			j.pushRefused(ctx)
			continue
		}
		j.push(ctx, j.groups[j.random.IntN(len(j.groups))])
	}
}

func (j *spoolJob) request() modelRequest {
	n := j.next
	switch j.random.IntN(8) {
	case 0:
		return modelRequest{http.MethodDelete, "", func(groupState) groupState { return groupState{} }}
	case 1, 2:
		return modelRequest{http.MethodPost, postBody("c", n, 1), func(s groupState) groupState {
			return groupState{true, s.a, s.b, n}
		}}
	case 3, 4:
		return modelRequest{http.MethodPost, postBody("a", n, seriesOfFamily), func(s groupState) groupState {
			return groupState{true, n, s.b, s.c}
		}}
	default:
		return modelRequest{http.MethodPut, putBody(n), func(groupState) groupState { return groupState{true, n, n, 0} }}
	}
}

// push pushes to a group and keeps account.
func (j *spoolJob) push(ctx context.Context, g *modelGroup) {
	r := j.request()
	got, err := j.send(r.method, fmt.Sprintf("/metrics/job/%s/n/%d", j.name, g.n), r.body)
	after := map[groupState]bool{}
	for s := range g.possible {
		after[r.after(s)] = true
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED): // The agent is not there: nothing has happened.
		client.Pause(ctx, 10*time.Millisecond)
		return
	case err != nil || got.Status == http.StatusServiceUnavailable:
		j.asked.inDoubt.Add(1)
		for s := range after {
			g.possible[s] = true
		}
		return
	case got.Status == http.StatusOK, got.Status == http.StatusAccepted:
		if got.Header.Get("X-Relay-Spooled") == "true" {
			j.asked.spooled.Add(1)
		} else {
			j.asked.applied.Add(1)
		}
		if r.method == http.MethodDelete {
			j.asked.deletes.Add(1)
		}
	default:
		j.mistakes = append(j.mistakes, fmt.Errorf("%w: %s to group %d: %d %s", client.ErrStatus, r.method, g.n, got.Status, got.Body))
	}
	g.possible = after
}

// pushRefused pushes what no relay takes, because the family has another type in a group that was pushed to the relays
// directly. If no relay is attached, or the one that is goes away, it is refused later.
func (j *spoolJob) pushRefused(ctx context.Context) {
	got, err := j.send(http.MethodPut, "/metrics/job/"+j.name+"/n/clash", fmt.Sprintf("# TYPE outage_clash gauge\noutage_clash %d\n", j.next))
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		client.Pause(ctx, 10*time.Millisecond)
	case err != nil || got.Status == http.StatusServiceUnavailable:
		j.asked.inDoubt.Add(1)
	case got.Status == http.StatusAccepted && got.Header.Get("X-Relay-Spooled") == "true":
		j.asked.spooled.Add(1)
	case got.Status == http.StatusBadRequest && strings.Contains(got.Body, "outage_clash"):
		j.asked.refused.Add(1)
	default:
		j.mistakes = append(j.mistakes, fmt.Errorf("%w: a push that no relay takes: %d %s", client.ErrStatus, got.Status, got.Body))
	}
}

func (j *spoolJob) send(method, path, body string) (client.Response, error) {
	req, err := http.NewRequest(method, j.url+path, strings.NewReader(body))
	if err != nil {
		return client.Response{}, err
	}
	j.asked.waiting.Add(1)
	defer j.asked.waiting.Add(-1)
	resp, err := j.client.Do(req)
	if err != nil {
		return client.Response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	return client.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(content)}, err
}

// check compares what a relay has of the job's groups with the model, and returns what it has.
func (j *spoolJob) check(page map[string]float64) (states []groupState, err error) {
	var errs []error
	for _, g := range j.groups {
		s, err := j.read(page, g)
		if err == nil && !g.possible[s] {
			err = fmt.Errorf("%w: %s, group %d: the relay has %+v, possible is %+v", house.ErrModel, j.name, g.n, s, g.possible)
		}
		errs = append(errs, err)
		states = append(states, s)
	}
	if value, there := page[fmt.Sprintf(`outage_clash{agent="site-a", instance="", job=%q, n="clash"}`, j.name)]; there {
		errs = append(errs, fmt.Errorf("%w: %s: a push that no relay takes is on the page: %v", house.ErrModel, j.name, value))
	}
	return states, errors.Join(errs...)
}

// read returns what a page has of a group.
func (j *spoolJob) read(page map[string]float64, g *modelGroup) (groupState, error) {
	labels := fmt.Sprintf(`instance="", job=%q, n="%d"}`, j.name, g.n)
	value := func(family string, i int) int {
		return int(page[fmt.Sprintf(`outage_%s{agent="site-a", i="%d", %s`, family, i, labels)])
	}
	_, there := page[`push_time_seconds{agent="site-a", `+labels]
	s := groupState{there, value("a", 0), value("b", 0), value("c", 0)}
	for i := range seriesOfFamily {
		if a, b := value("a", i), value("b", i); a != s.a || b != s.b {
			return s, fmt.Errorf("%w: %s, group %d: series %d is of another push than the first", house.ErrModel, j.name, g.n, i)
		}
	}
	return s, nil
}

// settled takes over what the relays have as the only possible states.
func (j *spoolJob) settled(states []groupState) {
	for i, g := range j.groups {
		g.possible = map[groupState]bool{states[i]: true}
	}
}
