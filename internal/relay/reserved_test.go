package relay_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/relaytest"
	"pushrelay/internal/series"
)

// TestReservedFamilies: the list by which store and agents refuse the relay's names is what the relay registers, those whose series come later
// included.
func TestReservedFamilies(t *testing.T) {
	ca, opts := relaytest.NewCA(t, "example.org"), relaytest.Options(t)
	ca.Relay(&opts)
	opts.GRPCCRLFile = filepath.Join(t.TempDir(), "lists.pem")
	ca.WriteList(opts.GRPCCRLFile)
	server := relaytest.Start(t, opts)
	var names []string
	add := func(name string) {
		if strings.HasPrefix(name, "relay_") && !strings.HasPrefix(name, "relay_agent_") && !strings.HasPrefix(name, "relay_cluster_") {
			names = append(names, name)
		}
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		server.Telemetry().Describe(descs)
	}()
	fqName := regexp.MustCompile(`fqName: "([^"]*)"`)
	for desc := range descs {
		add(fqName.FindStringSubmatch(desc.String())[1])
	}
	families, err := server.Telemetry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, mf := range families {
		add(mf.GetName())
	}
	slices.Sort(names)
	if diff := cmp.Diff(strings.Join(slices.Compact(names), "\n"), strings.Join(series.RelayFamilies, "\n")); diff != "" {
		t.Errorf("series.RelayFamilies (-registered +listed):\n%s\nregistered:\n%s", diff, strings.Join(slices.Compact(names), "\n"))
	}
}
