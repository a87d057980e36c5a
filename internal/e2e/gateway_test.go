//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
)

// A gateway is a relay or a Pushgateway that runs, seen as what both are.
type gateway struct {
	*process
	url    string // with the route prefix
	scrape string // path of the exposition
}

// relayGateway starts a relay that keeps nothing and knows no agents: what a Pushgateway is.
func relayGateway(t testing.TB, flags ...string) *gateway {
	t.Helper()
	return startGateway(t, programs.relayServer, append([]string{"--data.dir="}, flags...))
}

// referenceGateway starts Debian's Pushgateway in the same way.
func referenceGateway(t testing.TB, flags ...string) *gateway {
	t.Helper()
	path := requireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway")
	// Debian's build keeps a file by default.
	return startGateway(t, path, append([]string{"--persistence.file="}, flags...))
}

func startGateway(t testing.TB, path string, flags []string) *gateway {
	t.Helper()
	address := freeAddress(t)
	g := &gateway{url: "http://" + address, scrape: "/metrics"}
	g.process = start(t, command{path: path, args: append([]string{"--web.listen-address=" + address}, flags...)})
	eventually(t, 20*time.Second, g.name+" answers", func() error {
		if !g.running() {
			t.Fatalf("%s ended: %s", g.name, g.cmd.ProcessState)
		}
		_, err := fetch(http.MethodGet, g.url+"/", nil)
		return err
	})
	return g
}

// A request is one HTTP request, and what should come of it.
type request struct {
	method, path, body string
	header             http.Header
	chunked            bool // no Content-Length

	status int
	says   string // part of the answer's body
	exact  bool   // the answer's body is says and nothing else
	want   http.Header
}

// put, post and del are requests to a group by its path below /metrics that are to be taken.
func put(path, body string) request {
	return request{method: http.MethodPut, path: "/metrics" + path, body: body, status: http.StatusOK, exact: true}
}

func post(path, body string) request {
	r := put(path, body)
	r.method = http.MethodPost
	return r
}

func del(path, body string) request {
	r := put(path, body)
	r.method, r.status = http.MethodDelete, http.StatusAccepted
	return r
}

// ask is a request for anything else, by its whole path.
func ask(method, path string, status int) request {
	return request{method: method, path: path, status: status}
}

// with adds a header to the request.
func (r request) with(name, value string) request {
	r.header = r.header.Clone()
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
	return r
}

// refused expects 400 with that text in the answer.
func (r request) refused(says string) request { return r.answered(http.StatusBadRequest, says) }

// answered expects that status and text.
func (r request) answered(status int, says string) request {
	r.status, r.says, r.exact = status, says, false
	return r
}

// saying expects just that answer.
func (r request) saying(body string) request {
	r.says, r.exact = body, true
	return r
}

// wanting expects a header in the answer.
func (r request) wanting(name, value string) request {
	r.want = r.want.Clone()
	if r.want == nil {
		r.want = http.Header{}
	}
	r.want.Set(name, value)
	return r
}

// send makes the request as it stands: its path is not cleaned, and a redirect is an answer like another.
func (g *gateway) send(r request) (response, error) {
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
		if r.chunked {
			body = io.MultiReader(body)
		}
	}
	req, err := http.NewRequest(r.method, g.url+r.path, body)
	if err != nil {
		return response{}, err
	}
	for name := range r.header {
		req.Header.Set(name, r.header.Get(name))
	}
	client := &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, fmt.Errorf("reading the answer to %s %s: %w", r.method, r.path, err)
	}
	return response{resp.StatusCode, resp.Header, string(content)}, nil
}

func (g *gateway) mustSend(t testing.TB, r request) response {
	t.Helper()
	got, err := g.send(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	return got
}

// check makes the request and compares the answer with what the request expects.
func (g *gateway) check(t testing.TB, r request) {
	t.Helper()
	r.compare(t, g.mustSend(t, r))
}

// compare compares an answer with what the request wants.
func (r request) compare(t testing.TB, got response) {
	t.Helper()
	if got.status != r.status {
		t.Errorf("%s %s: %d %.1000q, want %d", r.method, r.path, got.status, got.body, r.status)
		return
	}
	if r.exact && got.body != r.says || !strings.Contains(got.body, r.says) {
		t.Errorf("%s %s: %d %.1000q, want %q", r.method, r.path, got.status, got.body, r.says)
	}
	for name := range r.want {
		if value := got.header.Get(name); value != r.want.Get(name) {
			t.Errorf("%s %s: header %s is %q, want %q", r.method, r.path, name, value, r.want.Get(name))
		}
	}
}

// barrierJob is the job of the group that is pushed to so that everything before it has been applied: a Pushgateway
// answers a DELETE before it acts. No state shows it.
const barrierJob = "barrier"

func (g *gateway) barrier() error {
	r, err := g.send(post("/job/"+barrierJob, ""))
	if err == nil && r.status != http.StatusOK && r.status != http.StatusAccepted {
		err = fmt.Errorf("%w: the barrier push: %d %s", errStatus, r.status, r.body)
	}
	return err
}

// wipe empties the gateway, which must have its admin API enabled.
func (g *gateway) wipe(t testing.TB) {
	t.Helper()
	g.check(t, ask(http.MethodPut, "/api/v1/admin/wipe", http.StatusAccepted))
	if err := g.barrier(); err != nil {
		t.Fatal(err)
	}
}

// state returns what the exposition says of groups, as sorted lines: pushed series as they stand, and for each group what
// became of its pushes: `group{instance="",job="j"} pushed`. With metadata it has the TYPE and HELP lines of pushed families.
func (g *gateway) state(metadata bool) (string, error) {
	if err := g.barrier(); err != nil {
		return "", err
	}
	page, err := wantOK(g.url + g.scrape)
	if err != nil {
		return "", err
	}
	return stateOf(page, metadata)
}

func stateOf(page string, metadata bool) (string, error) {
	var lines, about []string
	outcomes := map[string]string{}
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			name := strings.Fields(line)[2]
			if len(about) > 0 && strings.Fields(about[0])[2] != name {
				about = nil
			}
			about = append(about, line)
			continue
		}
		// Whatever was pushed has a job, and nothing of the gateways' own has one.
		if !strings.Contains(line, `job="`) || strings.Contains(line, `job="`+barrierJob+`"`) {
			continue
		}
		if labels, ok := strings.CutPrefix(line, "push_time_seconds"); ok {
			outcomes[labels[:strings.LastIndex(labels, " ")]] += word(labels, "pushed")
			continue
		}
		if labels, ok := strings.CutPrefix(line, "push_failure_time_seconds"); ok {
			outcomes[labels[:strings.LastIndex(labels, " ")]] += word(labels, "rejected")
			continue
		}
		// go_ families are our own as well, with other help in another version of Go.
		if metadata && !strings.HasPrefix(line, "go_") {
			lines = append(lines, about...)
		}
		about = nil
		lines = append(lines, line)
	}
	for labels, outcome := range outcomes {
		lines = append(lines, "group"+labels+outcome)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// word says by the value at the end of a line whether something happened just now, never, or at a time that is neither.
func word(line, happened string) string {
	value, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
	switch {
	case err != nil:
		return " " + err.Error()
	case value == 0:
		return ""
	case math.Abs(value-float64(time.Now().Unix())) < 120:
		return " " + happened
	default:
		return fmt.Sprintf(" %s at %v", happened, value)
	}
}

// wantState waits until the state is the given lines, in any order.
func (g *gateway) wantState(t testing.TB, want string, metadata bool) {
	t.Helper()
	lines := strings.FieldsFunc(want, func(r rune) bool { return r == '\n' })
	for i, l := range lines {
		lines[i] = strings.TrimLeft(l, "\t")
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
	slices.Sort(lines)
	want = strings.Join(lines, "\n")
	var got string
	var err error
	for deadline := time.Now().Add(3 * time.Second); ; {
		if got, err = g.state(metadata); err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("the exposition is\n%s\nwant\n%s", indent(got), indent(want))
}

func indent(s string) string { return "\t" + strings.ReplaceAll(s, "\n", "\n\t") }

// inGzip and inSnappy return a body in the content encodings gzip and snappy.
func inGzip(body string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, body)
	z.Close()
	return b.String()
}

func inSnappy(body string) string {
	var b bytes.Buffer
	z := snappy.NewBufferedWriter(&b)
	io.WriteString(z, body)
	z.Close()
	return b.String()
}
