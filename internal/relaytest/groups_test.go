package relaytest_test

import (
	"strings"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestDeletedGroupsOfAgents: what is deleted at the relay by a selector comes back with the next push of the agent, as the answer says, and
// not before.
func TestDeletedGroupsOfAgents(t *testing.T) {
	relay := relaytest.Start(t, relaytest.Options(t))
	agent := relay.StartAgent(t, "site-a", "")
	const query = "/api/v1/groups?match[]=%7Bagent=%22site-a%22%7D"
	for range 2 {
		if status, body := relaytest.Do(t, "PUT", agent.URL+"/metrics/job/j", "m 1\n"); status != 200 {
			t.Fatal(status, body)
		}
		if _, body := relaytest.Get(t, relay.URL+query); !strings.Contains(body, `"labels":{"agent":"site-a","job":"j"},"agent":"site-a"`) {
			t.Errorf("listed: %s", body)
		}
		if _, body := relaytest.Do(t, "DELETE", relay.URL+query, ""); !strings.Contains(body, `"deleted":1,"changed":0,"of_agents":1,"note":"groups of agents come back`) {
			t.Errorf("deleted: %s", body)
		}
		if _, body := relaytest.Get(t, relay.URL+query); !strings.Contains(body, `"groups":[],"selected":0`) {
			t.Errorf("listed after the deletion: %s", body)
		}
	}
}
