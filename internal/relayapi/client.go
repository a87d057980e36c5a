package relayapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"pushrelay/internal/httpserver"
)

// DefaultAddress is where a relay listens on its own machine unless its flags say otherwise.
const DefaultAddress = "http://127.0.0.1:9091"

// maxAnswerBytes bounds what is read of an answer.
const maxAnswerBytes = 256 << 20

// ErrUnreachable says that there is no relay at the address, or none that answers.
var ErrUnreachable = errors.New("the relay cannot be reached")

// ErrNoRelay says that what answers at the address is no relay, or one that does not know the question yet.
var ErrNoRelay = errors.New("is no relay-server of this release")

// RefusedError is an answer of the relay that is no success.
type RefusedError struct {
	// Status is that of the answer.
	Status int
	// Reason is what the relay says, one line.
	Reason string
}

// Error returns the reason and the status.
func (e *RefusedError) Error() string { return fmt.Sprintf("%s (HTTP status %d)", e.Reason, e.Status) }

// Client speaks to one relay. It is safe for concurrent use, and keeps no connection open.
type Client struct {
	base *url.URL
	http *http.Client
	name string // the address for people, without a password
}

// New returns the client of the relay at an address: http://[user:password@]host:port, https://…, with the path of its --web.route-prefix, or
// unix:PATH. It contacts nobody.
func New(address string) (*Client, error) {
	transport := &http.Transport{DisableKeepAlives: true}
	c := &Client{name: address, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if path, ok := strings.CutPrefix(address, httpserver.UnixPrefix); ok && path != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = &url.URL{Scheme: "http", Host: "localhost"}
		return c, nil
	}
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("address of the relay is not such as %s or unix:/run/relay.sock", DefaultAddress) // not quoted: it may hold a password
	}
	c.base, c.name = base, base.Redacted()
	return c, nil
}

// Groups returns a page of the groups that the query means.
func (c *Client) Groups(ctx context.Context, query url.Values) (Page, error) {
	return ask[Page](ctx, c, http.MethodGet, query)
}

// Delete deletes the groups that the query means, or says which it would. Also if it fails half-way, it says what was deleted.
func (c *Client) Delete(ctx context.Context, query url.Values) (Deletion, error) {
	return ask[Deletion](ctx, c, http.MethodDelete, query)
}

func ask[T any](ctx context.Context, c *Client, method string, query url.Values) (data T, err error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+GroupsPath+"?"+query.Encode(), nil)
	if err != nil {
		return data, fmt.Errorf("making the request to %s: %w", c.name, err)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return data, c.unreachable(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return data, c.unreachable(err)
	}
	var answer Answer[T]
	err = json.Unmarshal(raw, &answer)
	if answer.Data != nil {
		data = *answer.Data
	}
	switch {
	case resp.StatusCode == http.StatusOK && err == nil && answer.Status == "success" && answer.Data != nil:
		return data, nil
	case answer.Error != "":
		return data, &RefusedError{Status: resp.StatusCode, Reason: oneLine(answer.Error)}
	case resp.StatusCode == http.StatusNotFound && strings.HasPrefix(string(raw), "404 "), resp.StatusCode/100 == 3, resp.StatusCode == http.StatusMethodNotAllowed, resp.StatusCode/100 == 2:
		return data, fmt.Errorf("what answers at %s %w (HTTP status %d; an agent and a Pushgateway have the same default port)", c.name, ErrNoRelay, resp.StatusCode)
	}
	reason := oneLine(string(raw))
	if reason == "" {
		reason = http.StatusText(resp.StatusCode)
	}
	return data, &RefusedError{Status: resp.StatusCode, Reason: reason}
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
func oneLine(text string) string {
	const most = 1000
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
