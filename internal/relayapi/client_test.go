package relayapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"pushrelay/internal/apiclient"
	"pushrelay/internal/relayapi"
)

func TestClient(t *testing.T) {
	const page = `{"status":"success","data":{"groups":[{"labels":{"job":"j"},"push_time":null,"push_failure_time":null,"states":[],"series":1}],"selected":3,"next":"x"}}`
	tests := []struct {
		name   string
		status int
		body   string
		want   string // of the error; empty for none
		is     error
	}{
		{"a page", 200, page, "", nil},
		{"refused", 400, `{"status":"error","errorType":"bad_data","error":"match[]: bad"}`, "match[]: bad", nil},
		{"half done", 503, `{"status":"error","data":{"groups":[],"selected":7},"error":"the disk is full"}`, "the disk is full", nil},
		{"starting", 503, "relay is starting\n", "relay is starting (HTTP status 503)", nil},
		{"admin API off", 404, "the admin API is not enabled (--web.enable-admin-api)\n", "not enabled (--web.enable-admin-api) (HTTP status 404)", nil},
		{"no such route", 404, "404 page not found\n", "is no relay-server of this release", relayapi.ErrNoRelay},
		{"something else", 200, "<html>", "is no relay-server of this release", relayapi.ErrNoRelay},
		{"JSON of something else", 200, `{"status":"success"}`, "is no relay-server of this release", relayapi.ErrNoRelay},
		{"no text", 401, "", "Unauthorized (HTTP status 401)", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user, _, _ := r.BasicAuth()
				asked = r.Method + " " + r.URL.String() + " " + user
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			}))
			defer server.Close()
			client, err := relayapi.New(strings.Replace(server.URL, "://", "://somebody:secret@", 1) + "/prefix/")
			if err != nil {
				t.Fatal(err)
			}
			got, err := client.Groups(t.Context(), url.Values{"match[]": {`{job="j"}`}})
			if want := "GET /prefix/api/v1/groups?match%5B%5D=%7Bjob%3D%22j%22%7D somebody"; asked != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
			switch {
			case tt.want == "" && (err != nil || got.Selected != 3 || got.Next != "x" || len(got.Groups) != 1):
				t.Errorf("Groups = %+v, %v", got, err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret")):
				t.Errorf("error %v, want one with %q", err, tt.want)
			case tt.name == "refused" && err.Error() != tt.want:
				t.Errorf("error %q, want %q and no more", err, tt.want)
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Errorf("error %v is not %v", err, tt.is)
			}
			if tt.name == "half done" && got.Selected != 7 {
				t.Errorf("Groups = %+v, want what was done", got)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for _, bad := range []string{"", "relay:9091", "ftp://relay", "http://", "http://u:secret@relay/?x=1", "unix:", "http://u:secret@%zz"} {
		if _, err := relayapi.New(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%q) = %v, want an error without the password", bad, err)
		}
	}
	client, err := relayapi.New("unix:" + filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Delete(t.Context(), nil); !errors.Is(err, apiclient.ErrUnreachable) {
		t.Errorf("Delete = %v, want ErrUnreachable", err)
	}
}
