//go:build linux

package cluster_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pushrelay/internal/e2e/client"
)

// TestSharedSettings: what is decided at one relay about agents and pushes holds at all: tokens, revocations, the policy and the push rules.
func TestSharedSettings(t *testing.T) {
	t.Parallel()
	s := &site{}
	policies := map[*member]string{}
	const open, narrow = "agents:\n- {name: 'site-*', push: '{job=~\".+\"}', serve: '*'}\n", "agents:\n- {name: 'site-*', push: '{job=\"allowed\"}', serve: '*'}\n"
	for _, name := range []string{"a", "b", "c"} {
		policy := filepath.Join(t.TempDir(), "policy.yml")
		client.WriteFile(t, policy, open)
		m := newMember(t, name, "", "", timeout, "--policy.file="+policy)
		policies[m] = policy
		s.members = append(s.members, m)
	}
	s.begin(t)
	// Made at c, used at all.
	a := (&site{members: []*member{s.members[2], s.members[1], s.members[0]}}).startAgent(t, "site-a")
	pushed := func(job string, want int) {
		t.Helper()
		client.Eventually(t, client.Patience, fmt.Sprintf("a push of job %s is %d", job, want), func() error {
			r, err := client.Fetch(http.MethodPut, a.url+"/metrics/job/"+job, strings.NewReader("done 1\n"))
			if err == nil && r.Status != want {
				err = fmt.Errorf("%w: %d %s", client.ErrStatus, r.Status, r.Body)
			}
			return err
		})
	}
	pushed("other", http.StatusOK)

	leader := s.leader(t)
	follower := s.followers(leader)[0]
	client.WriteFile(t, policies[follower], narrow)
	follower.Signal(t, syscall.SIGHUP)
	client.Eventually(t, client.Patience, follower.name+" says that its file differs", func() error {
		own, err := follower.ownSeries()
		if err == nil && own[`relay_cluster_settings_differ{file="policy"}`] != 1 {
			err = fmt.Errorf("%w: it does not", client.ErrStatus)
		}
		return err
	})
	pushed("other", http.StatusOK) // the leader's holds
	client.WriteFile(t, policies[leader], narrow)
	leader.Signal(t, syscall.SIGHUP)
	pushed("other", http.StatusForbidden)
	pushed("allowed", http.StatusOK)

	follower.run(t, "agents", "revoke", a.name)
	for _, m := range s.members {
		client.Eventually(t, client.Patience, m.name+" has no session with "+a.name, func() error {
			page, err := client.WantOK(m.url + "/api/v1/agents")
			if err == nil && strings.Contains(page, `"connected":true`) {
				err = fmt.Errorf("%w: %s", client.ErrStatus, page)
			}
			return err
		})
	}
	if r, err := client.Fetch(http.MethodPut, a.url+"/metrics/job/allowed", strings.NewReader("done 2\n")); err != nil || r.Status == http.StatusOK {
		t.Errorf("a push at an agent that is thrown out: %d %s %v", r.Status, r.Body, err)
	}
	for _, m := range s.members {
		client.WantSeries(t, m.url, `done{agent="site-a", instance="", job="allowed"}`, 1)
	}
	// Others are let in as before.
	b := s.startAgent(t, "site-b")
	client.Push(t, b.url+"/metrics/job/allowed", "done 3\n")
	for _, m := range s.members {
		client.WantSeries(t, m.url, `done{agent="site-b", instance="", job="allowed"}`, 3)
	}
}
