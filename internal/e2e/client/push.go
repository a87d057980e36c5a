package client

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// PushOne pushes one value and returns the status.
func PushOne(t *testing.T, url, job string, value int) int {
	t.Helper()
	resp, err := Fetch(http.MethodPut, url+"/metrics/job/"+job, strings.NewReader(fmt.Sprintf("full %d\n", value)))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status
}

// Push sends an exposition as any HTTP client would.
func Push(t testing.TB, url, body string) {
	t.Helper()
	r, err := Fetch(http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != http.StatusOK {
		t.Fatalf("PUT %s: %d %s", url, r.Status, r.Body)
	}
}
