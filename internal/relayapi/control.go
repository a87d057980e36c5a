package relayapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/httpserver"
)

// Control tells a running relay what to do with agents, at the socket in its data dir. It is safe for concurrent use.
type Control struct{ api *apiclient.Client }

// NewControl returns the client of the relay that runs on a data dir. It contacts nobody.
func NewControl(dataDir string) (*Control, error) {
	client, err := New(controlAddress(dataDir))
	if err != nil {
		return nil, err
	}
	return &Control{client.api}, nil
}

// NewLocal returns the client of the relay that runs on a data dir. What it is asked there it may do without its admin API.
func NewLocal(dataDir string) (*Client, error) { return New(controlAddress(dataDir)) }

func controlAddress(dataDir string) string {
	return httpserver.UnixPrefix + filepath.Join(dataDir, ControlSocket)
}

// Backup writes what the store of the relay holds to w. That it is whole says its format.
func (c *Control) Backup(ctx context.Context, w io.Writer) error {
	got, err := c.api.Fetch(ctx, apiclient.Request{Method: http.MethodGet, Path: ControlBackup}, w)
	if err != nil || got.IsSuccess() {
		return err
	}
	_, err = read[Nothing](c.api, got)
	return err
}

// Agents returns all agents, sorted by name.
func (c *Control) Agents(ctx context.Context) ([]Agent, error) {
	return tell[[]Agent](ctx, c, http.MethodGet, ControlAgents, nil)
}

// AgentsBy returns those that came in by a token, sorted by name.
func (c *Control) AgentsBy(ctx context.Context, token string) ([]Agent, error) {
	return tell[[]Agent](ctx, c, http.MethodGet, ControlTokens+"/"+url.PathEscape(token)+"/agents", nil)
}

// Agent returns one agent, with its certificates.
func (c *Control) Agent(ctx context.Context, name string) (Agent, error) {
	return tell[Agent](ctx, c, http.MethodGet, agentPath(name), nil)
}

// Revoke throws an agent out, or one certificate of it. It is durable and done when it returns.
func (c *Control) Revoke(ctx context.Context, name string, r Revoke) (Revoked, error) {
	return tell[Revoked](ctx, c, http.MethodPost, agentPath(name)+"/revoke", r)
}

// Allow lifts all revocations of an agent.
func (c *Control) Allow(ctx context.Context, name string) (Allowed, error) {
	return tell[Allowed](ctx, c, http.MethodPost, agentPath(name)+"/allow", nil)
}

// Forget removes an agent that is away, and its targets.
func (c *Control) Forget(ctx context.Context, name string) error {
	_, err := tell[Nothing](ctx, c, http.MethodDelete, agentPath(name), nil)
	return err
}

// Note has a certificate written to the ledger that was issued by command.
func (c *Control) Note(ctx context.Context, certPEM []byte) (Noted, error) {
	return tell[Noted](ctx, c, http.MethodPost, ControlCertificates, NewCertificate{Certificate: string(certPEM)})
}

// MakeToken makes a join token.
func (c *Control) MakeToken(ctx context.Context, t NewToken) (MadeToken, error) {
	return tell[MadeToken](ctx, c, http.MethodPost, ControlTokens, t)
}

// Tokens returns the join tokens that are neither ended nor void, the oldest first.
func (c *Control) Tokens(ctx context.Context) ([]Token, error) {
	return tell[[]Token](ctx, c, http.MethodGet, ControlTokens, nil)
}

// VoidToken makes a join token let nobody in any more.
func (c *Control) VoidToken(ctx context.Context, id string) (Token, error) {
	return tell[Token](ctx, c, http.MethodDelete, ControlTokens+"/"+url.PathEscape(id), nil)
}

func agentPath(name string) string { return ControlAgents + "/" + url.PathEscape(name) }

// tell asks the relay; a body is sent as JSON, unless it is nil.
func tell[T any](ctx context.Context, c *Control, method, path string, body any) (data T, err error) {
	request := apiclient.Request{Method: method, Path: path}
	if body != nil {
		if request.Body, err = json.Marshal(body); err != nil {
			return data, fmt.Errorf("asking the relay: %w", err)
		}
	}
	got, err := c.api.Do(ctx, request)
	if err != nil {
		return data, err
	}
	return read[T](c.api, got)
}
