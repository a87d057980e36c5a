//go:build linux

package hostile_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

func targetAt(name, instance string) *relayv1.Target {
	return &relayv1.Target{Name: name, Job: "j", Instance: instance, Address: "localhost:1", Scheme: "http", MetricsPath: "/metrics"}
}

// answer answers a scrape.
func (a *agent) answer(s *relayv1.ScrapeRequest, head *relayv1.ScrapeHead, body string) {
	stream, err := a.client.DeliverScrape(context.Background())
	if err != nil {
		return
	}
	for _, part := range []*relayv1.DeliverScrapeRequest{
		{Part: &relayv1.DeliverScrapeRequest_Reference{Reference: &relayv1.ScrapeReference{Session: a.welcome.GetSession(), Scrape: s.GetScrape()}}},
		{Part: &relayv1.DeliverScrapeRequest_Head{Head: head}},
		{Part: &relayv1.DeliverScrapeRequest_Body{Body: []byte(body)}},
		{Part: &relayv1.DeliverScrapeRequest_End{End: &relayv1.ScrapeEnd{BodyBytes: uint64(len(body))}}},
	} {
		stream.Send(part)
	}
	stream.CloseAndRecv()
}

// TestManyLargeTargets: sets of targets that are large cost nothing, and what everybody is told of targets stays small.
func TestManyLargeTargets(t *testing.T) {
	r := startRelay(t)
	a := r.issue("evil").attached(targetAt("small", "small"))
	go a.serve(nil)
	value := strings.Repeat("x", 8<<10)
	r.beside(usual, func(ctx context.Context) {
		for n := 0; ctx.Err() == nil && n < 20_000; n += 10 {
			set := &relayv1.TargetSet{More: true}
			for i := range 10 {
				large := targetAt(fmt.Sprint("t", n+i), fmt.Sprint(n+i))
				large.Labels = []*relayv1.Label{{Name: "a", Value: value}}
				set.Targets = append(set.Targets, large)
			}
			a.tell(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: set}})
		}
		a.tell(&relayv1.AttachRequest{Event: &relayv1.AttachRequest_Targets{Targets: &relayv1.TargetSet{}}})
		for _, path := range []string{"/sd/targets", "/api/v1/agents"} {
			if status, answer := r.do(t.Context(), http.MethodGet, path, ""); status != http.StatusOK || len(answer) > 64<<10 || !strings.Contains(answer, "small") {
				t.Errorf("%s is answered %d with %d bytes", path, status, len(answer))
			}
		}
	})
}

// TestAnswersAreData: what a target answers neither runs in a browser on the relay's origin nor leads a scraper elsewhere.
func TestAnswersAreData(t *testing.T) {
	r := startRelay(t)
	a := r.issue("evil").attached(targetAt("page", "page"), targetAt("redirect", "redirect"))
	go a.serve(func(s *relayv1.ScrapeRequest) {
		if s.GetTarget() == "page" {
			a.answer(s, &relayv1.ScrapeHead{Status: 200, Headers: []*relayv1.Header{
				{Name: "Content-Type", Value: []byte("text/html")}, {Name: "Set-Cookie", Value: []byte("a=b")}, {Name: "Refresh", Value: []byte("0; url=/")},
			}}, "<script>fetch('/metrics/job/x',{method:'PUT'})</script>")
			return
		}
		a.answer(s, &relayv1.ScrapeHead{Status: 302, Headers: []*relayv1.Header{{Name: "Location", Value: []byte("/metrics")}}}, "")
	})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(target string) *http.Response {
		resp, err := client.Get(r.url + "/agents/evil/targets/" + target + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	if page := ask("page"); page.StatusCode != http.StatusOK || strings.Contains(page.Header.Get("Content-Type"), "html") || page.Header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.Contains(page.Header.Get("Content-Security-Policy"), "sandbox") || page.Header.Get("Set-Cookie") != "" || page.Header.Get("Refresh") != "" {
		t.Errorf("a page is answered %d with %v", page.StatusCode, page.Header)
	}
	if redirect := ask("redirect"); redirect.StatusCode != http.StatusBadGateway || redirect.Header.Get("Location") != "" || redirect.Header.Get("X-Relay-Error") != "target_redirects" {
		t.Errorf("a redirect is answered %d with %v", redirect.StatusCode, redirect.Header)
	}
}

// TestTakenInstance: an agent that announces the instance of another takes no scrapes of it.
func TestTakenInstance(t *testing.T) {
	r := startRelay(t)
	serve := func(name string) {
		a := r.issue(name).attached(targetAt("t", "db:9100"))
		go a.serve(func(s *relayv1.ScrapeRequest) {
			a.answer(s, &relayv1.ScrapeHead{Status: 200}, "m{from=\""+name+"\"} 1\n")
		})
	}
	serve("honest")
	serve("evil")
	relayURL, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(relayURL)}}
	resp, err := client.Get("http://db:9100/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), `from="honest"`) {
		t.Errorf("a scrape of the instance is answered %d %s", resp.StatusCode, text)
	}
}
