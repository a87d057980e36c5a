package web

import (
	"fmt"
	"strings"
	"time"

	"pushrelay/internal/webpage"
)

// ClusterView is what a relay knows of the cluster that it is a member of.
type ClusterView struct {
	// Name is this relay's, Leader that of the one that decides what is pushed; empty if none is known to.
	Name, Leader string
	// Term is where the leadership began; a later one has a higher number.
	Term int64
	// HasQuorum says whether a majority is heard, and LastHeard when it was heard last; the zero time for never.
	HasQuorum bool
	LastHeard time.Time
	// Lag is for how long this relay has lacked something that is committed; 0 if it lacks nothing.
	Lag time.Duration
	// Clock is the cluster's, by which groups are late and expire.
	Clock time.Time
	// Members are all, sorted by name.
	Members []ClusterMember
	// Words say what is lost if the next member dies, and what to do, in a sentence or a few each.
	Words []string
	// Settings say what is not as it should be of the settings that all relays go by, a line each: a file of this relay says something else.
	Settings []string
}

// A Role is what a member is for a majority.
type Role string

// A Voter counts, a Learner catches up first. One that is Awaited was let in and has not started; one that is Missing was removed, and its removal was cut short.
const (
	Voter   Role = "voter"
	Learner Role = "learner"
	Awaited Role = "awaited"
	Missing Role = "missing"
)

func (r Role) words() string {
	switch r {
	case Voter:
		return "counts"
	case Learner:
		return "not yet: it catches up"
	case Awaited:
		return "not yet: it was let in, and has not started"
	case Missing:
		return "no more: it was removed"
	default:
		return string(r)
	}
}

// ClusterMember is one member of a cluster.
type ClusterMember struct {
	Name string
	// WebAddress is where it serves HTTP, LinkAddress where agents and relays dial in, PeerAddress where its etcd is heard; host:port.
	WebAddress, LinkAddress, PeerAddress string
	Role                                 Role
	// Witness says that it is an etcd member and nothing else.
	Witness bool
	Running bool
	// Since is since when it runs, or does not; zero if nobody knows.
	Since time.Time
	// Release is that of one that runs; empty if nobody knows.
	Release string
	// Behind is how many revisions of what is committed it lacks; nil if nobody knows.
	Behind *int64
}

// away returns the names of the members that should run and do not.
func (v *ClusterView) away() (names []string) {
	for i := range v.Members {
		if m := &v.Members[i]; !m.Running && (m.Role == Voter || m.Role == Learner) {
			names = append(names, m.Name)
		}
	}
	return names
}

// mostLag is how far behind a relay may be and is still asked (C10).
const mostLag = 5 * time.Second

// troubles says what of the cluster may need somebody, faults first.
func (v *ClusterView) troubles(now time.Time) (all []attention) {
	const link = "relays"
	switch {
	case !v.HasQuorum && v.LastHeard.IsZero():
		all = append(all, attention{Figure: "!", What: "No majority of the members was heard yet", Details: "direct pushes are refused, and agents keep theirs", Link: link})
	case !v.HasQuorum:
		all = append(all, attention{
			Figure: "!", What: "No majority of the members answers", Link: link,
			Details: "it was heard last " + webpage.MomentOf(v.LastHeard, now).Relative + "; direct pushes are refused, agents keep theirs, and scrapes go on",
		})
	case v.Leader == "":
		all = append(all, attention{Figure: "!", What: "No relay decides", Details: "pushes wait until one does, which takes two seconds at most", Link: link})
	}
	if away := v.away(); len(away) > 0 {
		all = append(all, attention{Figure: webpage.Count(len(away)), What: noun(len(away), "member does not run", "members do not run"), Names: some(away), Link: link, IsWarn: true})
	}
	if v.Lag > mostLag {
		all = append(all, attention{Figure: "!", What: "What this relay shows is old", Details: "its copy is " + webpage.Span(v.Lag) + " behind", Link: link, IsWarn: true})
	}
	for _, words := range v.Settings {
		all = append(all, attention{Figure: "!", What: "A file of this relay is not what the cluster goes by", Details: words, Link: link, IsWarn: true})
	}
	return all
}

// running counts the members that run.
func (v *ClusterView) running() (n int) {
	for i := range v.Members {
		if v.Members[i].Running {
			n++
		}
	}
	return n
}

// verdict says in a sentence who is there.
func (v *ClusterView) verdict() string {
	return fmt.Sprintf("%d of %s running; %s.", v.running(), noun(len(v.Members), "1 member is", fmt.Sprintf("%d members are", len(v.Members))), v.decides())
}

func (v *ClusterView) decides() string {
	if v.Leader == "" {
		return "none decides"
	}
	return v.Leader + " decides"
}

// clusterTile is the cluster on the first page, in a line.
type clusterTile struct {
	Class, Words   string
	Running, Known int
}

func (v *ClusterView) tile(now time.Time) *clusterTile {
	t := &clusterTile{Running: v.running(), Known: len(v.Members)}
	if all := v.troubles(now); len(all) > 0 {
		t.Class, t.Words = all[0].class(), all[0].Sentence()
		return t
	}
	t.Words = v.decides()
	return t
}

// Sentence is what an attention says without its details.
func (a *attention) Sentence() string { return strings.TrimPrefix(a.Figure+" "+a.What, "! ") }

// class is the colour of an attention.
func (a *attention) class() string {
	if a.IsWarn {
		return "warn"
	}
	return "bad"
}

// state is another text once something has changed that people look for. How far the relay is behind changes all the time.
func (v *ClusterView) state() string {
	var text strings.Builder
	fmt.Fprint(&text, v.Leader, v.Term, v.HasQuorum, v.Lag > mostLag, v.Words, v.Settings)
	for i := range v.Members {
		m := &v.Members[i]
		fmt.Fprint(&text, m.Name, m.Role, m.Running, m.Since.UnixNano(), m.Release)
	}
	return text.String()
}
