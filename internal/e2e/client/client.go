package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A Response is an answer that was read whole.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// ErrStatus is that an answer has another status than it should.
var ErrStatus = errors.New("unexpected status")

// Fetch makes one request on a connection of its own, so that no test sees another's.
func Fetch(method, url string, body io.Reader) (Response, error) {
	return fetchWithin(20*time.Second, method, url, body)
}

// FetchPatiently is Fetch for an answer that may take longer than any other.
func FetchPatiently(method, url, body string) (Response, error) {
	return fetchWithin(2*time.Minute, method, url, strings.NewReader(body))
}

func fetchWithin(limit time.Duration, method, url string, body io.Reader) (Response, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return Response{}, err
	}
	client := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return Response{}, fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(content)}, nil
}

// WantOK is fetch for polls: any status but 200 is an error.
func WantOK(url string) (string, error) {
	r, err := Fetch(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if r.Status != http.StatusOK {
		return "", fmt.Errorf("%w: GET %s: %d %s", ErrStatus, url, r.Status, r.Body)
	}
	return r.Body, nil
}

// MustGet fetches a page that has to be there.
func MustGet(t testing.TB, url string) string {
	t.Helper()
	body, err := WantOK(url)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
