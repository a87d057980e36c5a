package membership_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/relayapi"
)

// members are those of letters: a voter that runs, A one that does not; w and W a witness; l a learner, n one that was let in, m one that is missing.
func members(letters string) (all []relayapi.ClusterMember) {
	for _, c := range letters {
		m := relayapi.ClusterMember{Name: strings.ToLower(string(c)), Role: relayapi.RoleVoter, Running: c >= 'a', Witness: c == 'w' || c == 'W'}
		switch c {
		case 'l':
			m.Role = relayapi.RoleLearner
		case 'n':
			m.Role, m.Running = relayapi.RoleAwaited, false
		case 'm':
			m.Role, m.Running = relayapi.RoleMissing, false
		default:
		}
		all = append(all, m)
	}
	return all
}

// TestWords: what a status says is lost if the next one dies, by the beginnings of its lines.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		members    string
		noMajority bool
		mayFail    int
		want       []string
	}{
		{members: "a", want: []string{"This is the only voter."}},
		{members: "ab", want: []string{"If one more voter fails, pushes are refused", "2 voters are no safer than 1"}},
		{members: "abc", mayFail: 1, want: []string{"Any one member may fail"}},
		{members: "abw", mayFail: 1, want: []string{"Any one member may fail"}},
		{members: "aBw", want: []string{"If one more voter fails", "Not running, or not heard: b.", "a is the only relay that runs"}},
		{members: "abcde", mayFail: 2, want: []string{"Any 2 members may fail"}},
		{members: "abcdE", mayFail: 1, want: []string{"Any one member may fail", "Not running, or not heard: e."}},
		{members: "abcd", mayFail: 1, want: []string{"Any one member may fail", "4 voters are no safer than 3"}},
		{members: "aBC", noMajority: true, want: []string{"No majority of the voters answers, 2 of 3", "If more of them are lost", "Not running, or not heard: b, c."}},
		{members: "al", want: []string{"This is the only voter.", "l catches up"}},
		{members: "an", want: []string{"This is the only voter.", "n was let in, and has not started"}},
		{members: "abcm", mayFail: 1, want: []string{"Any one member may fail", "m was removed"}},
	} {
		s := relayapi.ClusterStatus{Members: members(c.members), Majority: !c.noMajority}
		membership.Describe(&s)
		got := make([]string, len(s.Words))
		for i, words := range s.Words {
			got[i] = words
			if i < len(c.want) && strings.HasPrefix(words, c.want[i]) {
				got[i] = c.want[i]
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" || s.MayFail != c.mayFail {
			t.Errorf("%s: %d may fail, want %d; words (-want +got):\n%s", c.members, s.MayFail, c.mayFail, diff)
		}
	}
}

// TestWordsOfTheLevel: a status says that the feature level is going to rise, and nothing while it is as high as it can be, or not known (C20).
func TestWordsOfTheLevel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		level, old, latest uint32
		rises              bool
	}{
		{level: 1, old: 1, latest: 1},
		{level: 1, old: 1, latest: 2, rises: true},
		{level: 1, old: 2, latest: 2, rises: true}, // soon
		{level: 2, old: 2, latest: 2},
		{level: 1, old: 0, latest: 2, rises: true}, // one that is away
		{level: 0, old: 1, latest: 2},
	} {
		s := relayapi.ClusterStatus{Members: members("abc"), Majority: true, FeatureLevel: c.level}
		s.Members[0].FeatureLevel, s.Members[1].FeatureLevel, s.Members[2].FeatureLevel = c.latest, c.latest, c.old
		membership.Describe(&s)
		if rises := strings.HasPrefix(s.Words[len(s.Words)-1], "The feature level is 1. It rises to 2 "); rises != c.rises || len(s.Words) > 2 {
			t.Errorf("at level %d, with members that understand %d and %d: %q", c.level, c.latest, c.old, s.Words)
		}
	}
}
