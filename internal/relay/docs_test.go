package relay_test

import (
	"math/big"
	"path/filepath"
	"testing"

	"pushrelay/internal/relaytest"
)

// TestMetricsInTheReference: a relay that keeps a Pushgateway's file, and one with certificates of another authority and its revocation list, have all
// metrics between them.
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
	relaytest.WantInReference(t, "## A relay's own", own.Telemetry(), foreign.Telemetry())
}
