package relay_test

import (
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/cluster/membership"
	"pushrelay/internal/relay"
	"pushrelay/internal/relaytest"
)

// A part of the metrics is those of a cluster, or the others.
type part struct {
	*prometheus.Registry

	ofCluster bool
}

// Describe sends the descriptions of the part.
func (p part) Describe(ch chan<- *prometheus.Desc) {
	all := make(chan *prometheus.Desc)
	go func() { // ends with the last of them, which are all received below
		p.Registry.Describe(all)
		close(all)
	}()
	for desc := range all {
		if strings.HasPrefix(desc.String(), `Desc{fqName: "relay_cluster_`) == p.ofCluster {
			ch <- desc
		}
	}
}

// beMember makes what the options say the first member of a cluster.
func beMember(t *testing.T, opts relay.Options) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = membership.Found(membership.Founding{
		DataDir: opts.DataDir, Name: "a", Addresses: membership.Addresses{Peer: peer, Link: "127.0.0.1:9443", Web: "127.0.0.1:9091"}, Listen: peer, Release: "v1",
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMetricsInTheReference: a relay that keeps a Pushgateway's file, one with certificates of another authority and its revocation list, and a member of a
// cluster have all metrics between them.
func TestMetricsInTheReference(t *testing.T) {
	opts := relaytest.Options(t)
	opts.PersistenceFile = filepath.Join(t.TempDir(), "pushgateway.data")
	own := relaytest.Start(t, opts)

	ca := relaytest.NewCA(t, "example.org")
	opts = relaytest.Options(t)
	ca.Relay(&opts)
	opts.GRPCCRLFile = filepath.Join(t.TempDir(), "lists.pem")
	ca.WriteList(opts.GRPCCRLFile, big.NewInt(7))
	foreign := relaytest.Start(t, opts)

	opts = relaytest.Options(t)
	beMember(t, opts)
	member := relaytest.Start(t, opts)
	relaytest.WantInReference(t, "## A relay's own", own.Telemetry(), foreign.Telemetry(), part{member.Telemetry(), false})
	relaytest.WantInReference(t, "## Of a relay in a cluster", part{member.Telemetry(), true})
}
