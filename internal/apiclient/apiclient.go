// Package apiclient is how the commands of both programs speak to one that runs: where it is, what is asked over HTTP, and what is said when
// nobody answers or the answer is a refusal.
//
// It knows no route, and prints nothing. Start reading at [Client].
package apiclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pushrelay/internal/httpserver"
)

// largeBody is the size from which on a body waits for the program to ask for it.
const largeBody = 64 << 10

// ErrUnreachable says that there is no program at the address, or none that answers.
var ErrUnreachable = errors.New("cannot be reached")

// RefusedError is an answer that is no success.
type RefusedError struct {
	// Status is that of the answer.
	Status int
	// Reason is what the program says, one line.
	Reason string
	// InWords says that the reason is the program's own, as its API has it, and no text of whoever answers there, of which the status may say more.
	InWords bool
}

// Error returns the reason, and the status if that may say more.
func (e *RefusedError) Error() string {
	if e.InWords {
		return e.Reason
	}
	return fmt.Sprintf("%s (HTTP status %d)", e.Reason, e.Status)
}

// Later says that the same request may succeed later.
func (e *RefusedError) Later() bool {
	return e.Status >= http.StatusInternalServerError || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// Config says whom a client speaks to.
type Config struct {
	// Program is what it is for people: "agent" or "relay".
	Program string
	// Example is an address such as it has, and Socket one of a Unix socket.
	Example, Socket string
	// MaxAnswerBytes bounds what is read of an answer.
	MaxAnswerBytes int64
}

// Client speaks to one program. It is safe for concurrent use, and keeps no connection open.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
	name string // the address for people, without a password
}

// New returns the client of the program at an address: http://[user:password@]host:port, https://…, with the path that its routes are below, or
// unix:PATH. It contacts nobody.
func New(address string, cfg Config) (*Client, error) {
	// No proxy of the environment: most often the program is on this machine.
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Second}
	c := &Client{cfg: cfg, name: address, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // no route has one
	}}
	if path, ok := strings.CutPrefix(address, httpserver.UnixPrefix); ok {
		if path == "" {
			return nil, fmt.Errorf("address %q of the %s has no path, want such as %s", address, cfg.Program, cfg.Socket)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = &url.URL{Scheme: "http", Host: "localhost"}
		return c, nil
	}
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		// It is not quoted, since it may hold a password.
		return nil, fmt.Errorf("address of the %s is not such as %s or %s", cfg.Program, cfg.Example, cfg.Socket)
	}
	c.base, c.name = base, base.Redacted()
	return c, nil
}

// Name returns the address for people, without a password.
func (c *Client) Name() string { return c.name }

// Answer is what a program answered, whatever its status.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// IsSuccess says whether the program did what was asked.
func (a *Answer) IsSuccess() bool { return a.Status/100 == 2 }

// Refused returns the answer as a refusal, with what its body says.
func (a *Answer) Refused() *RefusedError {
	reason := OneLine(string(a.Body))
	if reason == "" {
		reason = http.StatusText(a.Status)
	}
	return &RefusedError{Status: a.Status, Reason: reason}
}

// Request is what a program is asked.
type Request struct {
	Method string
	// Path is percent-encoded, and may have a query.
	Path string
	// Header are headers beside those that every request has; nil for none.
	Header http.Header
	Body   []byte
}

// Do sends a request and returns the answer. An error is that there is no answer: [ErrUnreachable].
func (c *Client) Do(ctx context.Context, q Request) (*Answer, error) {
	resp, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return c.read(resp)
}

// Fetch sends a request and writes the body of the answer to w as it comes, if that is a success. Otherwise it returns the answer, as Do does, and
// has written nothing.
func (c *Client) Fetch(ctx context.Context, q Request, w io.Writer) (*Answer, error) {
	resp, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return c.read(resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return nil, fmt.Errorf("the answer of the %s at %s is not whole: %w", c.cfg.Program, c.name, err)
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header}, nil
}

// send returns the answer with its body unread. The caller closes it.
func (c *Client) send(ctx context.Context, q Request) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, q.Method, strings.TrimSuffix(c.base.String(), "/")+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return nil, fmt.Errorf("making the request to %s: %w", c.name, err)
	}
	maps.Copy(r.Header, q.Header)
	if len(q.Body) > largeBody {
		r.Header.Set("Expect", "100-continue") // a body that is too large is refused before it is on its way
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return resp, nil
}

func (c *Client) read(resp *http.Response) (*Answer, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, c.cfg.MaxAnswerBytes))
	if err != nil {
		return nil, c.unreachable(err)
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: raw}, nil
}

// unreachable says why there is no answer, without the URL: it is long, and may hold a password.
func (c *Client) unreachable(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the %s %w at %s: no answer in time", c.cfg.Program, ErrUnreachable, c.name)
	}
	return fmt.Errorf("the %s %w at %s: %w", c.cfg.Program, ErrUnreachable, c.name, err)
}

// OneLine makes one line of an answer, and no longer than a person reads.
func OneLine(text string) string {
	const most = 1000
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
