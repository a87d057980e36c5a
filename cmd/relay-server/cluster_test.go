package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/control"
	"pushrelay/internal/enrol"
	"pushrelay/internal/relayapi"
)

// memberOf is a relay that answers about its cluster.
type memberOf struct{}

func (memberOf) Found(_ context.Context, n relayapi.NewCluster) (relayapi.MadeCluster, error) {
	return relayapi.MadeCluster{}, &relayapi.Failure{Kind: relayapi.Conflict, Err: os.ErrExist}
}

func (memberOf) Status(context.Context) (relayapi.ClusterStatus, error) {
	lag := int64(7)
	s := relayapi.ClusterStatus{Cluster: "c1", Member: "a", Leader: "b", Majority: true, FeatureLevel: 1, Members: []relayapi.ClusterMember{
		{Name: "a", PeerAddress: "a:1", LinkAddress: "a:2", Role: relayapi.RoleVoter, Running: true, Self: true, Release: "v1", FeatureLevel: 1},
		{Name: "b", PeerAddress: "b:1", LinkAddress: "b:2", Role: relayapi.RoleVoter, Running: true, Leader: true, Release: "v2", FeatureLevel: 2, LagRevisions: &lag},
		{Name: "w", PeerAddress: "w:1", Role: relayapi.RoleVoter, Witness: true},
	}}
	membership.Describe(&s)
	return s, nil
}

func (memberOf) Token(_ context.Context, t relayapi.NewMemberToken) (relayapi.MemberToken, error) {
	return relayapi.MemberToken{Name: t.Name, Witness: t.Witness, Text: "prc1_secret", EndsAt: time.Now().Add(time.Duration(t.TTLSeconds) * time.Second)}, nil
}

func (memberOf) Remove(_ context.Context, name string) (relayapi.MemberGone, error) {
	if name != "b" {
		return relayapi.MemberGone{}, &relayapi.Failure{Kind: relayapi.NotFound, Err: os.ErrNotExist}
	}
	return relayapi.MemberGone{Name: name}, nil
}

func (memberOf) HandOver(context.Context) (relayapi.HandedOver, error) {
	return relayapi.HandedOver{}, &relayapi.Failure{Kind: relayapi.Unavailable, Err: context.DeadlineExceeded}
}

func (memberOf) Leave(context.Context) (relayapi.MemberGone, error) {
	return relayapi.MemberGone{}, &relayapi.Failure{Kind: relayapi.Conflict, Err: os.ErrInvalid}
}

// founded returns the data dir of a member that does not run.
func founded(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := membership.Found(membership.Founding{
		DataDir: dir, Name: "a", Addresses: membership.Addresses{Peer: "a.example:9444", Link: "a.example:9443", Web: "a.example:9091"}, Release: "v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

type clusterTest struct {
	args           string
	code           int
	stdout, stderr string // in it
}

func runClusterTests(t *testing.T, dataDir string, tests []clusterTest) {
	t.Helper()
	for _, tt := range tests {
		stdout, stderr, code := command(append([]string{"--data.dir=" + dataDir, "cluster"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("cluster %s: exit code %d, want %d\nstdout %s\nstderr %s", tt.args, code, tt.code, stdout, stderr)
		}
	}
}

// TestClusterOfARelay: with a member that runs.
func TestClusterOfARelay(t *testing.T) {
	dir := founded(t)
	socket, err := net.Listen("unix", filepath.Join(dir, relayapi.ControlSocket))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: control.ClusterHandler(memberOf{})}
	t.Cleanup(func() { server.Close() })
	go server.Serve(socket)
	runClusterTests(t, dir, []clusterTest{
		{"status", 0, "MEMBER        ROLE            RUNS  LAG  RELEASE  LEVEL  ETCD  LINK\na (this one)  voter           yes   -    v1       1      a:1   a:2\nb             voter, leads    yes   7    v2       2      b:1   b:2\n", ""},
		{"status", 0, "feature level of the cluster: 1\nIf", ""},
		{"status", 0, "The feature level is 1. It rises to 2 once all members run a release that understands that.", ""},
		{"status", 0, "If one more voter fails, pushes are refused until it or another one is back.", ""},
		{"token c", 0, "prc1_secret\n", "good for member c, once, until "},
		{"token w --witness --output=json", 0, `"witness": true`, ""},
		{"token", 2, "", "name"},
		{"remove b", 0, "b is removed, and stops if it runs", ""},
		{"remove x", 1, "", "file does not exist"},
		{"handover", 3, "", "deadline exceeded"},
		{"leave", 1, "", "invalid argument"},
		{"init --name=a", 1, "", "file already exists"},
		{"force-new --yes", 1, "", "a relay runs on it: stop it first"},
	})
	stdout, _, _ := command("--data.dir="+dir, "cluster", "status", "--output=json")
	var s relayapi.ClusterStatus
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || len(s.Members) != 3 || s.FeatureLevel != 1 || s.Members[1].FeatureLevel != 2 || s.Members[1].LagRevisions == nil || *s.Members[1].LagRevisions != 7 {
		t.Errorf("status in JSON: %v\n%s", err, stdout)
	}
}

// TestClusterOfFiles: without one that runs.
func TestClusterOfFiles(t *testing.T) {
	single := t.TempDir()
	if err := os.WriteFile(filepath.Join(single, "agents.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	agents := enrol.NewToken([]string{"a:1"}, enrol.Pin{})
	runClusterTests(t, single, []clusterTest{
		{"status", 3, "", "it is no member of a cluster, and no relay runs on it, and this needs one"},
		{"leave", 1, "", "it is no member of a cluster"},
		{"force-new --yes", 1, "", "it is no member of a cluster"},
		{"join x --address=b.example", 1, "", "that is no join token"},
		{"join " + agents.Text() + " --address=b.example", 1, "", "relay-agent enroll takes it"},
		{"join " + agents.TextOf(enrol.ForMembers) + " --address=b.example", 1, "", "is not empty"},
		{"init --name=a.b --address=a.example", 1, "", "member name"},
		{"init --name=a --address=", 2, "", "--address is empty"},
		{"init --name=a --address=a.example --peer-ca-dir=/none", 1, "", "in --peer-ca-dir /none"},
		{"init --name=a --address=a.example", 0, "a is from its next start on the first member of cluster ", "no relay runs on"},
		{"init --name=a --address=a.example", 1, "", `this is member "a" of a cluster already`},
		{"status", 3, "", `it is that of member "a"; no relay runs on it`},
	})
	member := founded(t)
	d, err := membership.Open(member, "v1")
	if err == nil {
		err = d.Done()
	}
	if err != nil {
		t.Fatal(err)
	}
	runClusterTests(t, member, []clusterTest{
		{"force-new", 2, "", "--yes does it"},
		{"force-new --yes", 0, "a is the only member of the new cluster ", ""},
		{"leave", 1, "", `what is pending, "force-new"`},
	})
	// By the authority of members: one that is a member already is left as it is.
	const by = "join --peer-ca-dir=/none --address=a.example --member=b.example:9443 --name="
	runClusterTests(t, member, []clusterTest{
		{by + "a", 0, "a is a member of cluster ", ""},
		{by + "a --output=json", 0, `"already": true`, ""},
		{by + "b", 1, "", `is that of member "a", and this is to be "b"`},
	})
	runClusterTests(t, t.TempDir(), []clusterTest{
		{by + "a", 1, "", "reading the authority of members in --peer-ca-dir /none"},
		{by + "a --witness", 1, "", "a witness gets no key of the members' authority"},
		{by + "a prc1_x", 2, "", "give a token"},
		{"join", 2, "", "give a token"},
		{"join prc1_x --name=a", 2, "", "give a token"},
		{"join --peer-ca-dir=/none --name=a", 2, "", "give a token"},
		{"join --peer-ca-dir=/none --member=b.example:9443", 2, "", "give a token"},
		{"join --peer-ca-dir=", 2, "", "--peer-ca-dir is empty"},
		{"init --name=a --address=a.example --peer-ca-dir=/none", 1, "", "is not that of a relay"},
	})
	runClusterTests(t, filepath.Join(t.TempDir(), "none"), []clusterTest{{"status", 1, "", "is not that of a relay"}})
}
