//go:build linux

package conformance_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/gateway"
)

var (
	differentialRequests = flag.Int("differential.requests", 1500, "requests that TestDifferential sends to the relay and to a Pushgateway")
	differentialSeed     = flag.Uint64("differential.seed", 0, "seed of TestDifferential; 0 takes one from the clock")
)

// A quirk is a difference that is meant.
type quirk struct {
	what string
	// covers says whether the quirk explains different answers to a request.
	covers func(r randomRequest, relay, reference client.Response) bool
}

// quirks are all differences between answers that are meant. Expositions differ nowhere.
//
// What else differs is never sent, because the reference does not survive it, or keeps what neither can take back: grouping
// values that are no UTF-8, escaped slashes beside literal ones, groups and series that differ by an empty label only, le in the path of a histogram, the names
// of the gateways' own metrics where those are not there yet, a push_failure_time_seconds for the second time, names
// that begin with relay_, bounds and quantiles that repeat, and jobs in base64 that are none. TestConformance has them. Nor are families without series in
// protobuf, which no client sends: with POST the reference takes them for the end of that family.
var quirks = []quirk{
	{
		"1.5.1 redirects with 301 what later ones redirect with 307",
		func(_ randomRequest, relay, reference client.Response) bool {
			return reference.Status == http.StatusMovedPermanently && relay.Status == http.StatusTemporaryRedirect &&
				relay.Header.Get("Location") == reference.Header.Get("Location")
		},
	},
	{
		"the relay refuses paths whose redirect would lead to another group, with the reason",
		func(r randomRequest, relay, reference client.Response) bool {
			return r.pathKind == ambiguousPath && relay.Status == http.StatusBadRequest &&
				reference.Status >= 300 && reference.Status < 400
		},
	},
	{
		"the relay answers HEAD wherever it answers GET",
		func(r randomRequest, relay, reference client.Response) bool {
			return r.Method == http.MethodHead && relay.Status == http.StatusOK && reference.Status == http.StatusMethodNotAllowed
		},
	},
}

// TestDifferential sends the same random requests to the relay and to Debian's Pushgateway, one after the other, and
// compares each answer's status and what the expositions say afterwards: every pushed series with its value, type and help,
// and for each group whether a push to it was taken or rejected. Series are compared as a set (S16), times as such are not.
func TestDifferential(t *testing.T) {
	t.Parallel()
	seed := *differentialSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-differential.seed=%d -differential.requests=%d", seed, *differentialRequests)
	relay, reference := gateway.Relay(t, "--web.enable-admin-api"), gateway.Reference(t, "--web.enable-admin-api")
	random := generator{rand.New(rand.NewPCG(seed, 0))}
	var sent []randomRequest // since both were empty
	taken, refused := 0, 0
	// A sequence that says little about one of both is gone on with.
	says := func() bool {
		return *differentialRequests < 500 || taken >= *differentialRequests/3 && refused >= *differentialRequests/10
	}
	for i := 0; i < *differentialRequests || !says() && i < 3**differentialRequests; i++ {
		r := random.request()
		if r.kind == wipes {
			sent = nil
		}
		sent = append(sent, r)
		outcome, err := compare(r, relay, reference)
		if err != nil {
			t.Fatalf("request %d of seed %d: %v\nrequests since both were empty:\n%s", i+1, seed, err, history(sent))
		}
		if outcome.Status < 300 {
			taken++
		} else {
			refused++
		}
	}
	t.Logf("%d requests were taken, %d were not", taken, refused)
	if !says() {
		t.Errorf("%d requests were taken and %d were not: the sequence says little about one of both", taken, refused)
	}
}

// compare sends a request to both, and looks at both afterwards.
func compare(r randomRequest, relay, reference *gateway.Gateway) (client.Response, error) {
	answers, states, failures := [2]client.Response{}, [2]string{}, [2]error{}
	var both sync.WaitGroup
	for i, g := range []*gateway.Gateway{relay, reference} {
		both.Go(func() {
			var err error
			if answers[i], err = g.Send(r.to(g == reference)); err != nil {
				failures[i] = fmt.Errorf("%s: %w", g.Name, err)
				return
			}
			if states[i], err = g.State(true); err != nil {
				failures[i] = fmt.Errorf("%s after %s: %w", g.Name, r, err)
			}
		})
	}
	both.Wait()
	if err := errors.Join(failures[:]...); err != nil {
		return client.Response{}, err
	}
	if answers[0].Status != answers[1].Status && !excused(r, answers[0], answers[1]) {
		return client.Response{}, fmt.Errorf("%w: %s: the relay answers %d %q, the reference %d %q",
			errDifferent, r, answers[0].Status, answers[0].Body, answers[1].Status, answers[1].Body)
	}
	if states[0] != states[1] {
		return client.Response{}, fmt.Errorf("%w: after %s only one of both has\n%s", errDifferent, r, gateway.Indent(differing(states[0], states[1])))
	}
	return answers[0], nil
}

var errDifferent = errors.New("different")

func excused(r randomRequest, relay, reference client.Response) bool {
	for _, q := range quirks {
		if q.covers(r, relay, reference) {
			return true
		}
	}
	return false
}

// differing returns the lines that only one of two states has.
func differing(a, b string) string {
	var out strings.Builder
	for _, side := range []struct{ name, lines, others string }{{"relay    ", a, b}, {"reference", b, a}} {
		others := "\n" + side.others + "\n"
		for line := range strings.Lines(side.lines) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.Contains(others, "\n"+line+"\n") {
				fmt.Fprintf(&out, "%s %s\n", side.name, line)
			}
		}
	}
	return out.String()
}

// history writes requests in the order in which they were sent.
func history(sent []randomRequest) string {
	var out strings.Builder
	for _, r := range sent {
		fmt.Fprintf(&out, "\t%s\n", r)
	}
	return out.String()
}
