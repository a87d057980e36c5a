//go:build linux

package gateway

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

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
)

// A Gateway is a relay or a Pushgateway that runs, seen as what both are.
type Gateway struct {
	*program.Process
	URL    string // with the route prefix
	scrape string // path of the exposition
}

// Relay starts a relay that keeps nothing and knows no agents: what a Pushgateway is.
func Relay(t testing.TB, flags ...string) *Gateway {
	t.Helper()
	return Start(t, program.RelayServer(), append([]string{"--data.dir="}, flags...))
}

// Reference starts Debian's Pushgateway in the same way.
func Reference(t testing.TB, flags ...string) *Gateway {
	t.Helper()
	path := program.RequireProgram(t, "/usr/bin/prometheus-pushgateway", "prometheus-pushgateway")
	// Debian's build keeps a file by default.
	return Start(t, path, append([]string{"--persistence.file="}, flags...))
}

// Start starts a program that takes pushes, and waits until it is ready.
func Start(t testing.TB, path string, flags []string) *Gateway {
	t.Helper()
	address := program.FreeAddress(t)
	g := &Gateway{URL: "http://" + address, scrape: "/metrics"}
	g.Process = program.Start(t, program.Command{Path: path, Args: append([]string{"--web.listen-address=" + address}, flags...)})
	client.Eventually(t, 20*time.Second, g.Name+" answers", func() error {
		if !g.Running() {
			t.Fatalf("%s ended: %s", g.Name, g.Cmd.ProcessState)
		}
		_, err := client.Fetch(http.MethodGet, g.URL+"/", nil)
		return err
	})
	return g
}

// A Request is one HTTP request, and what should come of it.
type Request struct {
	Method, Path, Body string
	Header             http.Header
	Chunked            bool // no Content-Length

	Status int
	says   string // part of the answer's body
	Exact  bool   // the answer's body is says and nothing else
	want   http.Header
}

// Put is a request to a group by its path below /metrics that is to be taken.
func Put(path, body string) Request {
	return Request{Method: http.MethodPut, Path: "/metrics" + path, Body: body, Status: http.StatusOK, Exact: true}
}

// Post is a push that replaces families.
func Post(path, body string) Request {
	r := Put(path, body)
	r.Method = http.MethodPost
	return r
}

// Del deletes a group.
func Del(path, body string) Request {
	r := Put(path, body)
	r.Method, r.Status = http.MethodDelete, http.StatusAccepted
	return r
}

// Ask is a request for anything else, by its whole path.
func Ask(method, path string, status int) Request {
	return Request{Method: method, Path: path, Status: status}
}

// With adds a header to the request.
func (r Request) With(name, value string) Request {
	r.Header = r.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set(name, value)
	return r
}

// Refused expects 400 with that text in the answer.
func (r Request) Refused(says string) Request { return r.Answered(http.StatusBadRequest, says) }

// Answered expects that status and text.
func (r Request) Answered(status int, says string) Request {
	r.Status, r.says, r.Exact = status, says, false
	return r
}

// Saying expects just that answer.
func (r Request) Saying(body string) Request {
	r.says, r.Exact = body, true
	return r
}

// Wanting expects a header in the answer.
func (r Request) Wanting(name, value string) Request {
	r.want = r.want.Clone()
	if r.want == nil {
		r.want = http.Header{}
	}
	r.want.Set(name, value)
	return r
}

// Send makes the request as it stands: its path is not cleaned, and a redirect is an answer like another.
func (g *Gateway) Send(r Request) (client.Response, error) {
	var body io.Reader
	if r.Body != "" {
		body = strings.NewReader(r.Body)
		if r.Chunked {
			body = io.MultiReader(body)
		}
	}
	req, err := http.NewRequest(r.Method, g.URL+r.Path, body)
	if err != nil {
		return client.Response{}, err
	}
	for name := range r.Header {
		req.Header.Set(name, r.Header.Get(name))
	}
	pusher := &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := pusher.Do(req)
	if err != nil {
		return client.Response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return client.Response{}, fmt.Errorf("reading the answer to %s %s: %w", r.Method, r.Path, err)
	}
	return client.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(content)}, nil
}

// MustSend is Send for a request that has to be answered.
func (g *Gateway) MustSend(t testing.TB, r Request) client.Response {
	t.Helper()
	got, err := g.Send(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.Path, err)
	}
	return got
}

// Check makes the request and compares the answer with what the request expects.
func (g *Gateway) Check(t testing.TB, r Request) {
	t.Helper()
	r.Compare(t, g.MustSend(t, r))
}

// Compare compares an answer with what the request wants.
func (r Request) Compare(t testing.TB, got client.Response) {
	t.Helper()
	if got.Status != r.Status {
		t.Errorf("%s %s: %d %.1000q, want %d", r.Method, r.Path, got.Status, got.Body, r.Status)
		return
	}
	if r.Exact && got.Body != r.says || !strings.Contains(got.Body, r.says) {
		t.Errorf("%s %s: %d %.1000q, want %q", r.Method, r.Path, got.Status, got.Body, r.says)
	}
	for name := range r.want {
		if value := got.Header.Get(name); value != r.want.Get(name) {
			t.Errorf("%s %s: header %s is %q, want %q", r.Method, r.Path, name, value, r.want.Get(name))
		}
	}
}

// BarrierJob is the job of the group that is pushed to so that everything before it has been applied: a Pushgateway
// answers a DELETE before it acts. No state shows it.
const BarrierJob = "barrier"

func (g *Gateway) barrier() error {
	r, err := g.Send(Post("/job/"+BarrierJob, ""))
	if err == nil && r.Status != http.StatusOK && r.Status != http.StatusAccepted {
		err = fmt.Errorf("%w: the barrier push: %d %s", client.ErrStatus, r.Status, r.Body)
	}
	return err
}

// Wipe empties the gateway, which must have its admin API enabled.
func (g *Gateway) Wipe(t testing.TB) {
	t.Helper()
	g.Check(t, Ask(http.MethodPut, "/api/v1/admin/wipe", http.StatusAccepted))
	if err := g.barrier(); err != nil {
		t.Fatal(err)
	}
}

// State returns what the exposition says of groups, as sorted lines: pushed series as they stand, and for each group what
// became of its pushes: `group{instance="",job="j"} pushed`. With metadata it has the TYPE and HELP lines of pushed families.
func (g *Gateway) State(metadata bool) (string, error) {
	if err := g.barrier(); err != nil {
		return "", err
	}
	page, err := client.WantOK(g.URL + g.scrape)
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
		if !strings.Contains(line, `job="`) || strings.Contains(line, `job="`+BarrierJob+`"`) {
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

// WantState waits until the state is the given lines, in any order.
func (g *Gateway) WantState(t testing.TB, want string, metadata bool) {
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
		if got, err = g.State(metadata); err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Errorf("the exposition is\n%s\nwant\n%s", Indent(got), Indent(want))
}

// Indent puts a text in where a test logs it.
func Indent(s string) string { return "\t" + strings.ReplaceAll(s, "\n", "\n\t") }

// InGzip and InSnappy return a body in the content encodings gzip and snappy.
func InGzip(body string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, body)
	z.Close()
	return b.String()
}

// InSnappy compresses a body.
func InSnappy(body string) string {
	var b bytes.Buffer
	z := snappy.NewBufferedWriter(&b)
	io.WriteString(z, body)
	z.Close()
	return b.String()
}

// Push sends a body to a path below /metrics, and wants this status.
func (g *Gateway) Push(t *testing.T, method, path, body string, want int) {
	t.Helper()
	resp, err := client.Fetch(method, g.URL+"/metrics"+path, strings.NewReader(body))
	if err != nil || resp.Status != want {
		t.Fatalf("%s %s: %d %s %v, want %d", method, path, resp.Status, resp.Body, err, want)
	}
}
