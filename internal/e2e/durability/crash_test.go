//go:build linux

package durability_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/program"
)

const (
	crashRounds  = 20
	crashPushers = 16
)

// A content is what one group of a crashing pusher holds: the values of its three families, 0 for none. The first two
// are always pushed together.
type content struct{ a, b, c int }

// A crashingPusher pushes to one group and knows what has to be there: what was answered last, or what was asked for since
// and never answered.
type crashingPusher struct {
	job    string
	random *rand.Rand
	client *http.Client

	next      int
	certain   content
	possible  content // the outcome of the request that got no answer; valid if unanswered
	uncertain bool
	answered  *atomic.Int64 // of all pushers
}

// run pushes until the relay is gone.
func (p *crashingPusher) run(url string, quit <-chan struct{}) error {
	for {
		select {
		case <-quit:
			return nil
		default:
		}
		p.next++
		method, body, after, want := p.step()
		p.possible, p.uncertain = after, true
		status, err := p.send(method, url+"/metrics/job/"+p.job, body)
		if err != nil {
			return nil //nolint:nilerr // The relay was killed: whether it took this one shows later.
		}
		if status != want {
			return fmt.Errorf("%s of %s: status %d, want %d", method, p.job, status, want)
		}
		p.certain, p.uncertain = after, false
		p.answered.Add(1)
	}
}

// step chooses the next request and what the group holds after it.
func (p *crashingPusher) step() (method, body string, after content, want int) {
	n := p.next
	switch p.random.IntN(10) {
	case 0:
		return http.MethodDelete, "", content{}, http.StatusAccepted
	case 1, 2:
		return http.MethodPost, fmt.Sprintf("crash_c %d\n", n), content{p.certain.a, p.certain.b, n}, http.StatusOK
	default:
		var b strings.Builder
		for i := range 20 {
			fmt.Fprintf(&b, "crash_a{i=\"%d\"} %d\ncrash_b{i=\"%d\"} %d\n", i, n, i, n)
		}
		return http.MethodPut, b.String(), content{n, n, 0}, http.StatusOK
	}
}

func (p *crashingPusher) send(method, url, body string) (status int, err error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// check compares what the relay has after a crash, and goes on from there.
func (p *crashingPusher) check(t *testing.T, page map[string]float64) {
	t.Helper()
	var got content
	for family, value := range map[string]*int{"crash_a": &got.a, "crash_b": &got.b} {
		for i := range 20 {
			v := int(page[fmt.Sprintf("%s{i=\"%d\", instance=\"\", job=%q}", family, i, p.job)])
			if i > 0 && v != *value {
				t.Errorf("%s: %s is of several pushes: %d and %d", p.job, family, *value, v)
			}
			*value = v
		}
	}
	got.c = int(page[fmt.Sprintf("crash_c{instance=\"\", job=%q}", p.job)])
	if got != p.certain && (!p.uncertain || got != p.possible) {
		t.Errorf("%s: the relay has %+v; acknowledged was %+v, in flight (%v) %+v", p.job, got, p.certain, p.uncertain, p.possible)
	}
	p.certain, p.uncertain = got, false
}

// TestCrash kills the relay under 16 pushers, again and again. What was acknowledged is there afterwards, exactly; of what
// was in flight all or nothing; and what was deleted stays deleted.
func TestCrash(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t, "--web.enable-admin-api")
	random := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	var answered atomic.Int64
	pushers := make([]*crashingPusher, crashPushers)
	for i := range pushers {
		pushers[i] = &crashingPusher{
			job: fmt.Sprintf("crash-%d", i), answered: &answered, random: rand.New(rand.NewPCG(8, random.Uint64())),
			client: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
		}
	}
	for range crashRounds {
		crash(t, relay, pushers, &answered, 50*time.Millisecond+time.Duration(random.IntN(250))*time.Millisecond)
		if t.Failed() {
			return
		}
	}
	for _, p := range pushers {
		p.client.CloseIdleConnections()
	}
	t.Logf("%d pushes and deletes were acknowledged over %d crashes", answered.Load(), crashRounds)

	if resp, err := client.Fetch(http.MethodPut, relay.URL+"/api/v1/admin/wipe", nil); err != nil || resp.Status != http.StatusAccepted {
		t.Fatalf("wipe: %+v, %v", resp, err)
	}
	relay.Kill(t)
	relay.Start(t)
	if page := client.MustGet(t, relay.URL+"/metrics"); strings.Contains(page, "crash_") || strings.Contains(page, "push_time_seconds{") {
		t.Error("groups that were wiped are back after a crash")
	}
	relay.Stop(t)
}

// crash runs the pushers against the relay until it has answered some, kills it after a while, starts it again and checks.
func crash(t *testing.T, relay *house.Relay, pushers []*crashingPusher, answered *atomic.Int64, after time.Duration) {
	t.Helper()
	quit := make(chan struct{})
	errs := make([]error, len(pushers))
	var running sync.WaitGroup
	for i, p := range pushers {
		running.Go(func() { errs[i] = p.run(relay.URL, quit) })
	}
	before := answered.Load()
	client.Eventually(t, client.Patience, "pushes are answered", func() error {
		if n := answered.Load() - before; n < crashPushers {
			return fmt.Errorf("%w: %d", house.ErrModel, n)
		}
		return nil
	})
	<-time.After(after) // a random moment is what is wanted
	relay.Kill(t)
	close(quit)
	running.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	relay.Start(t)
	page, err := client.SeriesOf(client.MustGet(t, relay.URL+"/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pushers {
		p.check(t, page)
	}
}

// TestEverythingSurvives compares all that the relay tells of its groups, before a crash and after it.
func TestEverythingSurvives(t *testing.T) {
	t.Parallel()
	relay := house.StartRelay(t)
	for path, body := range map[string]string{
		"/metrics/job/a/instance/i": "# HELP m Help with \\\\ and \\n.\n# TYPE m counter\nm{l=\"x y\"} 1e9\nn NaN\n",
		"/metrics/job/b":            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
		"/metrics/job/c":            "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 3\ns_count 2\n",
	} {
		if resp, err := client.Fetch(http.MethodPut, relay.URL+path, strings.NewReader(body)); err != nil || resp.Status != http.StatusOK {
			t.Fatalf("PUT %s: %+v, %v", path, resp, err)
		}
	}
	// A push of its own time for one family, and a failure time.
	if resp, err := client.Fetch(http.MethodPost, relay.URL+"/metrics/job/a/instance/i", strings.NewReader("later 1\n")); err != nil || resp.Status != http.StatusOK {
		t.Fatalf("POST: %+v, %v", resp, err)
	}
	if resp, err := client.Fetch(http.MethodPost, relay.URL+"/metrics/job/b", strings.NewReader("m{l=\"1\"} 1 1000\n")); err != nil || resp.Status != http.StatusBadRequest {
		t.Fatalf("POST with a timestamp: %+v, %v", resp, err)
	}
	// Failures are not waited for; the next answer is one batch behind.
	if resp, err := client.Fetch(http.MethodPost, relay.URL+"/metrics/job/c", nil); err != nil || resp.Status != http.StatusOK {
		t.Fatalf("POST: %+v, %v", resp, err)
	}
	before := client.MustGet(t, relay.URL+"/api/v1/metrics")
	relay.Kill(t)
	relay.Start(t)
	if after := client.MustGet(t, relay.URL+"/api/v1/metrics"); after != before {
		t.Errorf("after the crash /api/v1/metrics is\n%s\nand before it was\n%s", after, before)
	}
}

// TestSecondRelayIsRefused: one data dir has one owner (S21).
func TestSecondRelayIsRefused(t *testing.T) {
	t.Parallel()
	first := house.StartRelay(t)
	second := program.Output(t, program.Command{Path: program.RelayServer(), Args: []string{
		"--data.dir=" + first.DataDir, "--web.listen-address=" + program.FreeAddress(t), "--grpc.listen-address=" + program.FreeAddress(t),
	}})
	if second.Code != 1 || !strings.Contains(second.Stderr, "in use by another relay") || !strings.Contains(second.Stderr, first.DataDir) {
		t.Errorf("a second relay on %s: exit code %d\n%s", filepath.Base(first.DataDir), second.Code, second.Stderr)
	}
}
