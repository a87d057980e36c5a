// Package agentapi is how other programs speak to an agent: the client of its HTTP API on the local machine, and the JSON
// that both sides use.
//
// It knows no commands and prints nothing. Start reading at [Client] and [Status].
package agentapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/grouping"
	"pushrelay/internal/lifetime"
	"pushrelay/internal/push"
)

// DefaultAddress is where an agent listens unless its flags say otherwise.
const DefaultAddress = "http://127.0.0.1:9091"

// maxAnswerBytes bounds what is read of an answer.
const maxAnswerBytes = 64 << 20

// ErrNoAgent says that what answers at the address is no agent. Nothing was changed there.
var ErrNoAgent = errors.New("is no relay-agent")

// Client speaks to one agent. It is safe for concurrent use, and keeps no connection open.
type Client struct {
	api *apiclient.Client

	identified atomic.Bool // that it is an agent
}

// New returns the client of the agent at an address, see [apiclient.New]. It contacts nobody.
func New(address string) (*Client, error) {
	api, err := apiclient.New(address, apiclient.Config{
		Program: "agent", Example: DefaultAddress, Socket: "unix:/run/relay-agent/agent.sock", MaxAnswerBytes: maxAnswerBytes,
	})
	if err != nil {
		return nil, err
	}
	return &Client{api: api}, nil
}

// Push says what becomes of a push that was taken.
type Push struct {
	// Spooled says that the agent keeps the push until a relay takes it, and Detail why.
	Spooled bool
	Detail  string
}

// Content is what a push brings to its group.
type Content struct {
	// Exposition is in the text format.
	Exposition []byte
	// Life is what the push says of its group's life; the zero value for nothing.
	Life lifetime.Declaration
	// Failed is why the job failed that pushes; empty if it did not.
	Failed string
}

// Replace makes the exposition all that the group has (PUT).
func (c *Client) Replace(ctx context.Context, key grouping.Key, content Content) (Push, error) {
	return c.push(ctx, http.MethodPut, key, content)
}

// Merge replaces the metric families of the exposition in the group, and keeps its others (POST).
func (c *Client) Merge(ctx context.Context, key grouping.Key, content Content) (Push, error) {
	return c.push(ctx, http.MethodPost, key, content)
}

// Delete removes the group, if it is there.
func (c *Client) Delete(ctx context.Context, key grouping.Key) (Push, error) {
	return c.push(ctx, http.MethodDelete, key, Content{})
}

func (c *Client) push(ctx context.Context, method string, key grouping.Key, content Content) (Push, error) {
	if err := c.identify(ctx); err != nil {
		return Push{}, err
	}
	q := apiclient.Request{Method: method, Path: "/metrics/" + key.Path(), Header: http.Header{}, Body: content.Exposition}
	push.SetLife(q.Header, content.Life, content.Failed)
	header, answer, err := c.do(ctx, q)
	if err != nil {
		return Push{}, err
	}
	spooled := header.Get(push.SpooledHeader) != ""
	if !spooled {
		return Push{}, nil
	}
	return Push{Spooled: true, Detail: apiclient.OneLine(string(answer))}, nil
}

// Status returns what the agent tells of itself, also as it was told.
func (c *Client) Status(ctx context.Context) (Status, json.RawMessage, error) {
	_, raw, err := c.do(ctx, apiclient.Request{Method: http.MethodGet, Path: "/api/v1/status"})
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
	header, _, err := c.do(ctx, apiclient.Request{Method: http.MethodGet, Path: "/-/healthy"})
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
	refused, ok := errors.AsType[*apiclient.RefusedError](err)
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
	return fmt.Errorf("what answers at %s %w (a relay and a Pushgateway have the same default port)", c.api.Name(), ErrNoAgent)
}

// do sends a request and returns the answer if it is a success.
func (c *Client) do(ctx context.Context, q apiclient.Request) (http.Header, []byte, error) {
	answer, err := c.api.Do(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	if !answer.IsSuccess() {
		return nil, nil, answer.Refused()
	}
	return answer.Header, answer.Body, nil
}
