package relayapi

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// ControlCluster is the route of the cluster at the control socket: what is known of it. Below it is what can be done with it.
const ControlCluster = "/cluster"

// NewCluster says what the first member of a cluster is to be.
type NewCluster struct {
	// Name is the member's.
	Name string `json:"name"`
	// PeerAddress is where other members dial its etcd, LinkAddress its port for agents, WebAddress its metrics; host:port.
	PeerAddress string `json:"peer_address"`
	LinkAddress string `json:"link_address"`
	WebAddress  string `json:"web_address"`
	// ListenAddress is where its etcd is heard; empty for the port of PeerAddress on all addresses.
	ListenAddress string `json:"listen_address,omitempty"`
	// PeerCADir is the directory of an authority of members, as tls.crt and tls.key, which the relay reads; empty for one that it makes.
	PeerCADir string `json:"peer_ca_dir,omitempty"`
}

// MadeCluster is a new cluster, of one member.
type MadeCluster struct {
	Cluster string `json:"cluster"`
	Name    string `json:"name"`
	// Restarts says that the relay becomes the member right now; otherwise it does at its next start.
	Restarts bool `json:"restarts"`
}

// NewMemberToken says whom a token is to let in.
type NewMemberToken struct {
	Name       string `json:"name"`
	TTLSeconds int64  `json:"ttl_seconds"`
	// Witness lets in one that is an etcd member and nothing else.
	Witness bool `json:"witness,omitempty"`
}

// MemberToken is a new token.
type MemberToken struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Witness bool      `json:"witness"`
	EndsAt  time.Time `json:"ends_at"`
	// Text is the token itself, a secret: nobody can have it again.
	Text string `json:"text"`
	// Addresses are those in it.
	Addresses []string `json:"addresses"`
}

// The roles of members.
const (
	// RoleVoter counts for a majority.
	RoleVoter = "voter"
	// RoleLearner does not count yet: it catches up.
	RoleLearner = "learner"
	// RoleAwaited was let in and has not started.
	RoleAwaited = "awaited"
	// RoleMissing is one that is listed and that etcd does not have: its removal was cut short.
	RoleMissing = "missing"
	// RoleMember has run, in a cluster whose etcd runs by itself: there are no voters among the relays.
	RoleMember = "member"
)

// ClusterMember is a member of a cluster.
type ClusterMember struct {
	Name        string `json:"name"`
	PeerAddress string `json:"peer_address"`
	LinkAddress string `json:"link_address"`
	WebAddress  string `json:"web_address"`
	Role        string `json:"role"`
	Witness     bool   `json:"witness"`
	// Leader says that it decides. Self that it is the one that answers.
	Leader  bool `json:"leader"`
	Self    bool `json:"self"`
	Running bool `json:"running"`
	// Release is that of one that runs.
	Release string `json:"release,omitempty"`
	// FeatureLevel is the highest that the release of one that runs understands.
	FeatureLevel uint32 `json:"feature_level,omitempty"`
	// LagRevisions is how far it is behind what is committed, null if nobody knows.
	LagRevisions *int64 `json:"lag_revisions"`
}

// ClusterStatus is what a member knows of its cluster.
type ClusterStatus struct {
	Cluster string          `json:"cluster"`
	Member  string          `json:"member"`
	Leader  string          `json:"leader"`
	Members []ClusterMember `json:"members"`
	// Majority says that a majority answers now: pushes are taken.
	Majority bool `json:"majority"`
	// ExternalEtcd says that etcd runs by itself, so that the majority is that of its members.
	ExternalEtcd bool `json:"external_etcd"`
	// FeatureLevel is that of the cluster, which is never lowered: what is written may be of it. 0 if that is not known, as to a witness.
	FeatureLevel uint32 `json:"feature_level"`
	// MayFail is how many more members may fail before pushes are refused.
	MayFail int `json:"may_fail"`
	// Words say what that means, and what to do, one line each.
	Words []string `json:"words"`
}

// MemberGone is a member that was removed, or has left.
type MemberGone struct {
	Name string `json:"name"`
	// Last says that nobody else is a member.
	Last bool `json:"last"`
	// Restarts says that the relay becomes one of its own right now.
	Restarts bool `json:"restarts"`
	// Witness says that it was one. A witness that leaves ends.
	Witness bool `json:"witness"`
}

// HandedOver is a leader that leads no more.
type HandedOver struct {
	Former string `json:"former"`
	Leader string `json:"leader"`
}

// FoundCluster makes the relay the first member of a cluster.
func (c *Control) FoundCluster(ctx context.Context, n NewCluster) (MadeCluster, error) {
	return tell[MadeCluster](ctx, c, http.MethodPost, ControlCluster, n)
}

// Cluster returns what is known of the cluster.
func (c *Control) Cluster(ctx context.Context) (ClusterStatus, error) {
	return tell[ClusterStatus](ctx, c, http.MethodGet, ControlCluster, nil)
}

// MakeMemberToken makes a token that lets in a member.
func (c *Control) MakeMemberToken(ctx context.Context, t NewMemberToken) (MemberToken, error) {
	return tell[MemberToken](ctx, c, http.MethodPost, ControlCluster+"/tokens", t)
}

// RemoveMember removes another member.
func (c *Control) RemoveMember(ctx context.Context, name string) (MemberGone, error) {
	return tell[MemberGone](ctx, c, http.MethodDelete, ControlCluster+"/members/"+url.PathEscape(name), nil)
}

// HandOver has another member lead.
func (c *Control) HandOver(ctx context.Context) (HandedOver, error) {
	return tell[HandedOver](ctx, c, http.MethodPost, ControlCluster+"/handover", nil)
}

// LeaveCluster makes the relay one of its own.
func (c *Control) LeaveCluster(ctx context.Context) (MemberGone, error) {
	return tell[MemberGone](ctx, c, http.MethodPost, ControlCluster+"/leave", nil)
}
