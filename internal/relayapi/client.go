package relayapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"pushrelay/internal/apiclient"
)

// DefaultAddress is where a relay listens on its own machine unless its flags say otherwise.
const DefaultAddress = "http://127.0.0.1:9091"

// maxAnswerBytes bounds what is read of an answer.
const maxAnswerBytes = 256 << 20

// ErrNoRelay says that what answers at the address is no relay, or one that does not know the question yet.
var ErrNoRelay = errors.New("is no relay-server of this release")

// Client speaks to one relay. It is safe for concurrent use, and keeps no connection open.
type Client struct{ api *apiclient.Client }

// New returns the client of the relay at an address, see [apiclient.New]; the path is that of its --web.route-prefix. It contacts nobody.
func New(address string) (*Client, error) {
	api, err := apiclient.New(address, apiclient.Config{
		Program: "relay", Example: DefaultAddress, Socket: "unix:/run/relay.sock", MaxAnswerBytes: maxAnswerBytes,
	})
	if err != nil {
		return nil, err
	}
	return &Client{api}, nil
}

// Groups returns a page of the groups that the query means.
func (c *Client) Groups(ctx context.Context, query url.Values) (Page, error) {
	return ask[Page](ctx, c, http.MethodGet, query)
}

// Delete deletes the groups that the query means, or says which it would. Also if it fails half-way, it says what was deleted.
func (c *Client) Delete(ctx context.Context, query url.Values) (Deletion, error) {
	return ask[Deletion](ctx, c, http.MethodDelete, query)
}

// Ready asks whether the relay is ready. An error is that it is not, or that nobody answers; [ErrNoRelay] cannot be told from a relay here, since a
// Pushgateway and an agent have the route as well.
func (c *Client) Ready(ctx context.Context) error {
	got, err := c.api.Do(ctx, apiclient.Request{Method: http.MethodGet, Path: "/-/ready"})
	if err != nil {
		return err
	}
	if got.Status != http.StatusOK {
		return got.Refused()
	}
	return nil
}

func ask[T any](ctx context.Context, c *Client, method string, query url.Values) (data T, err error) {
	got, err := c.api.Do(ctx, apiclient.Request{Method: method, Path: GroupsPath + "?" + query.Encode()})
	if err != nil {
		return data, err
	}
	return read[T](c.api, got)
}

// read returns the data of an answer. Also of a refusal that has some.
func read[T any](api *apiclient.Client, got *apiclient.Answer) (data T, err error) {
	var answer Answer[T]
	err = json.Unmarshal(got.Body, &answer)
	if answer.Data != nil {
		data = *answer.Data
	}
	switch {
	case got.Status == http.StatusOK && err == nil && answer.Status == "success" && answer.Data != nil:
		return data, nil
	case answer.Error != "":
		return data, &apiclient.RefusedError{Status: got.Status, Reason: apiclient.OneLine(answer.Error), InWords: true}
	case got.Status == http.StatusNotFound && strings.HasPrefix(string(got.Body), "404 "), got.Status/100 == 3, got.Status == http.StatusMethodNotAllowed, got.IsSuccess():
		return data, fmt.Errorf("what answers at %s %w (HTTP status %d; an agent and a Pushgateway have the same default port)", api.Name(), ErrNoRelay, got.Status)
	default:
		return data, got.Refused()
	}
}
