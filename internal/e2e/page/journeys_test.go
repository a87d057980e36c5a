//go:build linux

package page_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/house"
	"pushrelay/internal/e2e/middlebox"
	"pushrelay/internal/e2e/program"
)

// TestPages is what people do with the pages, in a browser: from the overview each in a few clicks.
func TestPages(t *testing.T) {
	t.Parallel()
	s := newPageSite(t)
	b := startBrowser(t)
	// The late job is late a second after its grace has passed.
	client.Eventually(t, 20*time.Second, "the job is late", func() error {
		page, err := client.WantOK(s.URL + "/")
		if err == nil && !strings.Contains(page, "job is late") {
			err = errPage
		}
		return err
	})
	b.open(s.URL + "/")
	b.wantText("things need attention", "1 agent is offline", "site-lima", "1 job is late", "1 target is down: no answer came", "group is in quarantine", "Agents connected 1 of 2", "Targets up 1 of 4")
	b.keep("overview")

	t.Run("why is a target down", func(t *testing.T) {
		b.click("no answer came")
		b.wantText("1 target of 4", "db-2", "connection refused")
		b.keep("targets")
		b.click("db-2")
		b.wantText("It is down: no answer came", "Prometheus asked for it", "This relay takes requests", "Agent site-berlin is connected", "Connection", "Target "+s.shut+" gave no whole answer", "connection refused",
			"What to try", "curl -i http://"+s.shut+"/metrics", "none since the relay started")
		b.keep("target")
		b.click("site-berlin")
		b.wantText("site-berlin", "Scrapes in the last hour", "Bytes scraped in the last hour", "Certificate ends", "Sessions since the relay started")
		b.keep("agent")
	})
	t.Run("which job is late", func(t *testing.T) {
		b.open(s.URL + "/")
		b.click("job is late")
		b.wantText("1 group of", `job="nightly-report"`, "late")
		b.click("nightly-report")
		b.wantText("The next push is late since", "Declared by push", "report_rows", "17", "The last pushes", "taken")
		b.keep("group-late")
		b.open(s.URL + "/group/job/batch")
		b.wantText("took_seconds", "How long runs took.", "native", "count 2000")
		b.click("buckets")
		b.keep("group-histogram")
		b.open(s.URL + "/group/job/import/instance/web-3")
		b.wantText("The last push was refused", "must not have timestamps")
	})
	t.Run("remove a host", func(t *testing.T) {
		b.open(s.URL + "/groups")
		b.do(chromedp.SendKeys(chromedp.CSS("input[type=search]"), `instance="old-7"`+kb.Enter))
		b.wantText("4 groups of")
		if query := eval[string](b, "location.search"); query != "?q=instance%3D%22old-7%22" {
			t.Errorf("the link to share is %q", query)
		}
		b.keep("groups-found")
		b.click("Delete these 4 groups")
		b.wantText(`job="cleanup"`, "Delete 4 groups")
		b.click(`job="sync"`) // is not to be deleted
		b.wantText("Delete 3 groups")
		b.click("Delete 3 groups")
		wantNotice(b, "Deleting 3 groups in", "Leaving this page cancels it")
		b.keep("undo")
		if focus := eval[string](b, "document.activeElement.innerText"); focus != "Undo" {
			t.Errorf("the focus is on %q", focus)
		}
		b.do(chromedp.KeyEvent(kb.Escape))
		wantNotice(b, "Nothing was changed")
		b.click("Delete 3 groups")
		wantNotice(b, "Deleting 3 groups in")
		b.do(chromedp.Evaluate[chromedp.Void](`{ document.querySelector(".notice:not(:has(button))")?.remove(); const now = Date.now; Date.now = () => now() + 3600_000 }`)) // as on a machine that slept
		wantNotice(b, "Nothing was changed")
		b.click("Delete 3 groups")
		wantNotice(b, "Deleting 3 groups in")
		b.do(chromedp.Evaluate[chromedp.Void](`addEventListener("pageshow", (event) => { window.wasKept = event.persisted })`))
		b.open(s.URL + "/groups?q=old-7") // leaves the page, which the browser keeps as it stands
		b.wantText("4 groups of")
		<-time.After(11 * time.Second)
		b.back()
		b.wantText("Delete 3 groups")
		wantNotice(b, "Nothing was changed")
		if !eval[bool](b, "window.wasKept") {
			t.Error("the browser did not keep the page: what comes of that is not seen")
		}
		b.open(s.URL + "/groups?q=old-7")
		b.wantText("4 groups of")
		b.click("Delete these 4 groups")
		b.click("Delete 4 groups")
		s.push(t, "/metrics/job/report/instance/old-7", "report_seconds 2\n")
		wantNotice(b, "3 deleted, 1 pushed to or deleted meanwhile, and left.")
		b.wantText(`job="report"`)
		b.open(strings.Replace(s.URL, "//", "//someone:password@", 1) + "/groups/delete?q=old-7")
		b.click("Delete 1 group")
		wantNotice(b, "1 deleted.")
		b.open(s.URL + "/groups?q=old-7")
		b.wantText("No group matches")
		s.push(t, "/metrics/job/report/instance/old-7", "report_seconds 3\n")
	})
	t.Run("what changes is shown", func(t *testing.T) {
		b.open(s.URL + "/groups?q=fresh")
		b.wantText("No group matches")
		b.do(chromedp.Evaluate[chromedp.Void](`window.same = true; document.querySelector("input[type=search]").focus()`), chromedp.SendKeys(chromedp.CSS("input[type=search]"), kb.End+"er"))
		wantLive(b)
		s.push(t, "/metrics/job/fresh/instance/a", "m 1\n")
		b.wantText("1 group of", `job="fresh"`)
		if !eval[bool](b, `window.same && document.activeElement.value === "fresher"`) {
			t.Errorf("the page was loaded again, or what was typed is gone: %q", eval[string](b, "String(window.same) + document.activeElement.value"))
		}
		b.open(s.URL + "/")
		wantLive(b)
		s.lima.Start(t)
		b.wantText("Agents connected 2 of 2")
	})
	t.Run("many tabs", func(t *testing.T) { // a browser has six connections to a server, and shares them
		var tabs []*browser
		for range 8 {
			tab := newTab(b.ctx, t)
			tab.open(s.URL + "/groups?q=shared")
			tabs = append(tabs, tab)
		}
		s.push(t, "/metrics/job/shared", "m 1\n")
		for _, tab := range tabs {
			tab.wantText("1 group of")
			tab.wantNoProblems()
		}
	})
	t.Run("times", func(t *testing.T) {
		b.open(s.URL + "/group/job/fresh/instance/a")
		b.wantText(" ago")
		b.do(chromedp.Evaluate[chromedp.Void](`{ const s = document.getElementById("times"); s.value = "local"; s.dispatchEvent(new Event("change")) }`))
		local := eval[string](b, `document.querySelector(".lead time").innerText`)
		if _, err := time.ParseInLocation("2006-01-02 15:04:05", local, time.Local); err != nil {
			t.Errorf("the local time is %q", local)
		}
		b.open(s.URL + "/groups")
		if again := eval[string](b, `document.querySelector("tbody time").innerText`); strings.Contains(again, "ago") {
			t.Errorf("on the next page the time is %q", again)
		}
		b.do(chromedp.Evaluate[chromedp.Void](`{ const s = document.getElementById("times"); s.value = "relative"; s.dispatchEvent(new Event("change")) }`))
	})
	t.Run("the page of the agent", func(t *testing.T) {
		b.open(s.berlin.URL + "/")
		b.wantText("Something to look at", s.berlin.Dials, "connected", "Takes pushes yes", "db-2", "connection refused", "good.prom", "pushed", "bad.prom", "wrong")
		b.keep("agent-own")
	})
	t.Run("without a script", func(t *testing.T) {
		b.setScripts(true)
		defer b.setScripts(false)
		for path, want := range map[string]string{
			"/": "job is late", "/agents": "site-berlin", "/targets?state=down": "connection refused", "/groups?state=late": "nightly-report", "/group/job/batch": "took_seconds", "/groups/delete?q=old-7": "This needs a script", "/start": "relay-agent enroll TOKEN", "/status": "--web.enable-admin-api",
		} {
			b.open(s.URL + path)
			text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("main")))
			if err != nil || !strings.Contains(text, want) {
				t.Errorf("%s does not say %q: %v\n%.500s", path, want, err, text)
			}
		}
		b.open(s.URL + "/groups")
		b.keep("groups-without-script")
	})
	b.wantNoProblems("503 (Service Unavailable)")
}

func wantNotice(b *browser, want ...string) {
	b.Helper()
	client.Eventually(b, 30*time.Second, "a notice", func() error {
		text := eval[string](b, `document.getElementById("notices").innerText.replace(/[ \n]+/g, " ")`)
		for _, w := range want {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%w: the notices are %q, want %q", errPage, text, w)
			}
		}
		return nil
	})
}

// wantLive waits until the page hears of the relay.
func wantLive(b *browser) {
	b.Helper()
	client.Eventually(b, 20*time.Second, "the page is live", func() error {
		if state := eval[string](b, `document.getElementById("live").dataset.state`); state != "on" {
			return fmt.Errorf("%w: it is %q", errPage, state)
		}
		return nil
	})
}

// TestPagesBehindNginx: below a path, and as nginx passes it on by default, pages hear of changes and change something; also where the
// browser does not say where a request comes from, as on a connection that is not secure.
func TestPagesBehindNginx(t *testing.T) {
	t.Parallel()
	web := program.FreeAddress(t)
	s := &pageSite{Relay: &house.Relay{Owner: t, URL: "http://" + web + "/some/relay"}}
	s.Command = program.Command{Path: program.RelayServer(), Args: []string{"--web.listen-address=" + web, "--data.dir=", "--web.enable-admin-api", "--web.route-prefix=/some/relay"}}
	s.Start(t)
	url := strings.Replace(middlebox.StartNginxAt(t, strings.TrimSuffix(s.URL, "/some/relay"), "/some/relay/"), "127.0.0.1", "relay.test", 1)
	s.push(t, "/metrics/job/a/instance/x", "m 1\n")
	for i := range 400 { // more than one request, and more than nginx takes in one
		s.push(t, fmt.Sprintf("/metrics/job/many/instance/%s%d", strings.Repeat("long", 500), i), "m 1\n")
	}
	b := startBrowser(t)
	b.open(url + "/")
	b.wantText("All is well", "Groups 401")
	wantLive(b)
	s.push(t, "/metrics/job/b", "m 1\n")
	b.wantText("Groups 402")
	b.click("Groups")
	b.wantText("402 groups")
	b.open(url + "/groups?q=job%3D%22a%22")
	b.click(`job="a"`)
	b.wantText("Path of its pushes", "/some/relay/metrics/job/a/instance/x")
	b.click("Delete this group")
	b.click("Delete 1 group")
	wantNotice(b, "1 deleted.")
	b.open(url + "/groups/delete?q=many")
	b.click("Delete 400 groups")
	wantNotice(b, "400 deleted.")
	b.open(url + "/groups")
	b.wantText("1 group", `job="b"`)
	b.wantNoProblems()
}

// TestAccessiblePages: axe finds nothing on any page, in either colours, on a phone and on a wide screen; and everything is reached by keyboard.
func TestAccessiblePages(t *testing.T) {
	t.Parallel()
	axe := axeSource(t)
	s := newPageSite(t)
	b := startBrowser(t)
	pages := []string{
		"/", "/agents", "/agents/site-berlin", "/agents/site-lima", "/targets", "/groups", "/groups?state=failed", "/groups?q=%7B", "/group/job/batch", "/group/job/import/instance/web-3",
		"/group/job/nightly-report/instance/web-7", "/groups/delete?q=old-7", "/refused", "/start", "/status", "/group/job/none",
	}
	for _, g := range s.Discovered(t) {
		pages = append(pages, strings.TrimSuffix(g.Labels["__metrics_path__"], "/metrics"))
	}
	urls := []string{s.berlin.URL + "/"}
	for _, p := range pages {
		urls = append(urls, s.URL+p)
	}
	for _, l := range []struct {
		width   int64
		colours string
	}{{1600, "light"}, {1280, "dark"}, {390, "light"}, {390, "dark"}} {
		b.look(l.width, l.colours)
		for _, url := range urls {
			b.open(url)
			page := fmt.Sprintf("%s, %d, %s", url, l.width, l.colours)
			b.wantAccessible(axe, page)
			if over := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s: it is %d pixels wider than the window", page, over)
			}
		}
		b.open(s.URL + "/groups?state=failed")
		b.keep(fmt.Sprintf("groups-%d-%s", l.width, l.colours))
		b.open(s.URL + "/")
		b.keep(fmt.Sprintf("overview-%d-%s", l.width, l.colours))
	}
	// What is there before anything was pushed, and while a deletion waits.
	empty := house.StartRelay(t)
	for _, page := range []string{"/", "/agents", "/targets", "/groups", "/refused"} {
		b.open(empty.URL + page)
		b.wantAccessible(axe, "of an empty relay "+page)
	}
	b.open(s.URL + "/groups/delete?q=old-7")
	b.click("Delete 4 groups")
	wantNotice(b, "Deleting 4 groups in")
	b.wantAccessible(axe, "while a deletion waits")
	b.do(chromedp.KeyEvent(kb.Escape))
	wantNotice(b, "Nothing was changed")
	b.wantAccessible(axe, "after it was undone")
	// On a phone, and at 400 %, a list is put in order too, and whatever has the focus is seen.
	b.look(320, "light")
	b.open(s.URL + "/groups?state=failed")
	for range 40 {
		b.do(chromedp.KeyEvent(kb.Tab))
		hidden := eval[string](b, `(() => {
			const e = document.activeElement, r = e.getClientRects()[0];
			if (e === document.body || e.matches("[role=region]")) return "";
			const seen = r && document.elementFromPoint(r.x + Math.min(r.width / 2, 20), r.y + Math.min(r.height / 2, 10));
			return seen && e.contains(seen) ? "" : e.outerHTML;
		})()`)
		if hidden != "" {
			t.Errorf("nobody sees that the focus is on %s", hidden)
		}
	}
	b.do(chromedp.Evaluate[chromedp.Void](`{ const s = document.querySelector("select[name=sort]"); s.focus(); s.value = "-series"; s.dispatchEvent(new Event("change", {bubbles: true})) }`))
	client.Eventually(b, 20*time.Second, "the list is in order", func() error {
		if state := eval[string](b, "document.readyState + location.search"); state != "complete?state=failed&sort=-series" {
			return fmt.Errorf("%w: %q", errPage, state)
		}
		return nil
	})
	b.keep("groups-320")
	b.look(1280, "light")
	// By keyboard from the top to the first thing that needs attention.
	b.open(s.URL + "/")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab))
	if focus := eval[string](b, "document.activeElement.getAttribute('href')"); focus != "agents?state=offline" {
		t.Errorf("behind the skip link the focus is on %q", focus)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wantText("site-lima")
	b.wantNoProblems("404 (Not Found)", "400 (Bad Request)")
}

// TestPageBounds: with 10,000 groups the first pages are small, and a relay that many look at stays small.
func TestPageBounds(t *testing.T) {
	many := &pageSite{Relay: house.StartRelay(t)}
	for i := range 10_000 {
		many.push(t, fmt.Sprintf("/metrics/job/backup/instance/db-%d", i), "backup_bytes 48211\nbackup_ok 1\n", "Push-Every", "24h")
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Minute}
	load := func(url string) (bytes int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatal(err, resp.Header)
		}
		return int(n)
	}
	b := startBrowser(t)
	for _, path := range []string{"/", "/groups"} {
		n := load(many.URL + path)
		if n > 300<<10 {
			t.Errorf("%s has %d bytes", path, n)
		}
		b.open(many.URL + path)
		nodes := eval[int](b, "document.getElementsByTagName('*').length")
		t.Logf("%s of 10,000 groups: %d bytes compressed, %d nodes", path, n, nodes)
		if nodes > 5000 {
			t.Errorf("%s has %d nodes", path, nodes)
		}
	}
	before := residentBytes(t, many.Process)
	var tabs []*browser
	for i := range 20 {
		tab := newTab(b.ctx, t, chromedp.WithNewBrowserContext()) // each as another person's browser
		tab.open(many.URL + []string{"/", "/groups", "/groups?sort=-pushed"}[i%3])
		tabs = append(tabs, tab)
	}
	most := 0
	for round := range 10 {
		many.push(t, "/metrics/job/backup/instance/db-0", fmt.Sprintf("backup_bytes %d\n", round))
		<-time.After(time.Second)
		most = max(most, residentBytes(t, many.Process)-before)
	}
	for _, tab := range tabs {
		wantLive(tab)
	}
	t.Logf("20 open pages take %.1f MiB more", float64(most)/(1<<20))
	if most > 20<<20 {
		t.Errorf("20 open pages take %d bytes more", most)
	}
}
