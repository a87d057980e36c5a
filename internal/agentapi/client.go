// Package agentapi is how other programs speak to an agent: the client of its HTTP API on the local machine, and the JSON
// that both sides use.
//
// It knows no commands and prints nothing. Start reading at [Client] and [Status].
package agentapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"pushrelay/internal/grouping"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/push"
)

// DefaultAddress is where an agent listens unless its flags say otherwise.
const DefaultAddress = "http://127.0.0.1:9091"

// largeBody is the size from which on a body waits for the agent to ask for it.
const largeBody = 64 << 10

// maxAnswerBytes bounds what is read of an answer.
const maxAnswerBytes = 64 << 20

// ErrUnreachable says that there is no agent at the address, or none that answers.
var ErrUnreachable = errors.New("the agent cannot be reached")

// ErrNoAgent says that what answers at the address is no agent. Nothing was changed there.
var ErrNoAgent = errors.New("is no relay-agent")

// RefusedError is an answer of the agent that is no success.
type RefusedError struct {
	// Status is that of the answer.
	Status int
	// Reason is what the agent says, one line.
	Reason string
}

// Error returns the reason and the status.
func (e *RefusedError) Error() string { return fmt.Sprintf("%s (HTTP status %d)", e.Reason, e.Status) }

// Later says that the same request may succeed later.
func (e *RefusedError) Later() bool {
	return e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// Client speaks to one agent. It is safe for concurrent use, and keeps no connection open.
type Client struct {
	base *url.URL
	http *http.Client
	name string // the address for people, without a password

	identified atomic.Bool // that it is an agent
}

// New returns the client of the agent at an address: http://host:port, https://host:port, or unix:PATH. It contacts nobody.
func New(address string) (*Client, error) {
	// No proxy of the environment: the agent is on this machine.
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}
	c := &Client{name: address, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // an agent has none
	}}
	if path, ok := strings.CutPrefix(address, httpserver.UnixPrefix); ok {
		if path == "" {
			return nil, fmt.Errorf("address %q of the agent has no path, want such as unix:/run/relay-agent.sock", address)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = &url.URL{Scheme: "http", Host: "localhost"}
		return c, nil
	}
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("address of the agent is not such as %s or unix:/run/relay-agent.sock", DefaultAddress)
	}
	c.base, c.name = base, base.Redacted()
	return c, nil
}

// Push says what becomes of a push that was taken.
type Push struct {
	// Spooled says that the agent keeps the push until a relay takes it, and Detail why.
	Spooled bool
	Detail  string
}

// Replace makes the exposition all that the group has (PUT).
func (c *Client) Replace(ctx context.Context, key grouping.Key, exposition []byte) (Push, error) {
	return c.push(ctx, http.MethodPut, key, exposition)
}

// Merge replaces the metric families of the exposition in the group, and keeps its others (POST).
func (c *Client) Merge(ctx context.Context, key grouping.Key, exposition []byte) (Push, error) {
	return c.push(ctx, http.MethodPost, key, exposition)
}

// Delete removes the group, if it is there.
func (c *Client) Delete(ctx context.Context, key grouping.Key) (Push, error) {
	return c.push(ctx, http.MethodDelete, key, nil)
}

func (c *Client) push(ctx context.Context, method string, key grouping.Key, exposition []byte) (Push, error) {
	if err := c.identify(ctx); err != nil {
		return Push{}, err
	}
	header, answer, err := c.do(ctx, method, "/metrics/"+key.Path(), exposition)
	if err != nil {
		return Push{}, err
	}
	spooled := header.Get(push.SpooledHeader) != ""
	if !spooled {
		return Push{}, nil
	}
	return Push{Spooled: true, Detail: oneLine(answer)}, nil
}

// Status returns what the agent tells of itself, also as it was told.
func (c *Client) Status(ctx context.Context) (Status, json.RawMessage, error) {
	_, raw, err := c.do(ctx, http.MethodGet, "/api/v1/status", nil)
	if err != nil {
		return Status{}, nil, c.foreign(err)
	}
	var answer struct {
		Data *Status `json:"data"`
	}
	// A relay and a Pushgateway have the same route, and their status has no relays.
	if err := json.Unmarshal(raw, &answer); err != nil || answer.Data == nil || answer.Data.Relays == nil {
		return Status{}, nil, c.errNoAgent()
	}
	return *answer.Data, raw, nil
}

// identify makes sure that an agent answers: a relay or a Pushgateway would take a push as well, and keep it for itself. Agents
// that do not say so of themselves are known by their status.
func (c *Client) identify(ctx context.Context) error {
	if c.identified.Load() {
		return nil
	}
	header, _, err := c.do(ctx, http.MethodGet, "/-/healthy", nil)
	if err == nil && header.Get(AgentHeader) == "" {
		_, _, err = c.Status(ctx)
	}
	if err != nil {
		return c.foreign(err)
	}
	c.identified.Store(true)
	return nil
}

// foreign says of an answer that no agent gives that there is none.
func (c *Client) foreign(err error) error {
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok {
		return err
	}
	switch refused.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return c.errNoAgent()
	}
	if refused.Status/100 == 3 {
		return c.errNoAgent()
	}
	return err
}

func (c *Client) errNoAgent() error {
	return fmt.Errorf("what answers at %s %w (a relay and a Pushgateway have the same default port)", c.name, ErrNoAgent)
}

// do sends a request and returns the answer if it is a success. The path is percent-encoded.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, fmt.Errorf("making the request to %s: %w", c.name, err)
	}
	if len(body) > largeBody {
		r.Header.Set("Expect", "100-continue") // a body that is too large is refused before it is on its way
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, nil, c.unreachable(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Header, answer, nil
	}
	reason := oneLine(answer)
	if reason == "" {
		reason = http.StatusText(resp.StatusCode)
	}
	return nil, nil, &RefusedError{Status: resp.StatusCode, Reason: reason}
}

// unreachable says why there is no answer, without the URL: it is long, and may hold a password.
func (c *Client) unreachable(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w at %s: no answer in time", ErrUnreachable, c.name)
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.name, err)
}

// oneLine makes one line of an answer, and no longer than a person reads.
func oneLine(answer []byte) string {
	const most = 1000
	answer = bytes.TrimSpace(answer)
	if len(answer) > most {
		answer = append(answer[:most:most], "…"...)
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(answer), "")), " ")
}
