package relaytest_test

import (
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestRefusedPushes: whatever a push is refused for, the pages have it with its reason.
func TestRefusedPushes(t *testing.T) {
	opts := relaytest.Options(t)
	opts.PushLimits.MaxBodyBytes = 1000
	r := relaytest.Start(t, opts)
	for path, body := range map[string]string{"job/unread": "no text\n", "job/large": strings.Repeat("m 1\n", 1000), "job/odd/instance": "m 1\n", "job/self": "m 1\nm 1\n"} {
		if status, answer := relaytest.Do(t, "PUT", r.URL+"/metrics/"+path, body); status/100 != 4 {
			t.Errorf("PUT %s is %d %s", path, status, answer)
		}
	}
	_, first := relaytest.Get(t, r.URL+"/")
	if !strings.Contains(first, `href="refused"><b>4</b>`) {
		t.Errorf("the first page is %s", first)
	}
	_, all := relaytest.Get(t, r.URL+"/refused")
	for _, want := range []string{`job=<b>"unread"</b>`, `job=<b>"large"</b>`, `job=<b>"self"</b>`, "larger than 1000 bytes", "odd number of components"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
	for _, job := range []string{"unread", "large", "self"} {
		if status, page := relaytest.Get(t, r.URL+"/group/job/"+job); status != 200 || !strings.Contains(page, "refused: ") {
			t.Errorf("the page of the group %s is %d: %s", job, status, page)
		}
	}
}
