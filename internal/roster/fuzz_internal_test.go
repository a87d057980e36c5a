package roster

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pushrelay/internal/datadir"
	"pushrelay/internal/mtls"
	"pushrelay/internal/target"
)

// FuzzDecode looks for a file of known agents that is sound and lists an agent that cannot be, or more than an agent may announce; and for
// one that is another once it is written again.
func FuzzDecode(f *testing.F) {
	known := knownFile{Head: datadir.Head{Version: fileVersion}, Agents: []knownAgent{{
		Agent: "site-a", Targets: []knownTarget{{Target: target.Target{Name: "node", Job: "node", Instance: "i", Address: "a:1", Scheme: "http", MetricsPath: "/metrics"}, InstanceSince: 3}}, AnnouncedBy: "00",
	}}}
	sound, err := known.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add([]byte(`{"version":1,"agents":[{"agent":"a","targets":[{"Name":"x"}]},{"agent":"a"}]}`))
	f.Add([]byte(`{"version":2,"release":"v9","agents":3}`))
	f.Add([]byte(`{"version":1,"agents":[{"agent":"../a"}],"checksum":"crc32c:00000000"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		read, err := decode(raw)
		if err != nil {
			return
		}
		if read.Version != fileVersion {
			t.Errorf("a file of version %d is sound", read.Version)
		}
		names := map[string]bool{}
		for _, k := range read.Agents {
			if mtls.CheckAgentName(k.Agent) != nil || names[k.Agent] {
				t.Errorf("agent %q is there, or twice", k.Agent)
			}
			names[k.Agent] = true
			a := newAgent(Agent{Name: k.Agent})
			a.restoreTargets(k)
			if len(a.targets) != len(a.order) || len(a.targets) > 2*target.MaxTargets {
				t.Errorf("agent %q has %d targets in the order of %d", k.Agent, len(a.targets), len(a.order))
			}
			for name, one := range a.targets {
				if one.Name != name || one.Validate() != nil {
					t.Errorf("target %q of agent %q is %+v", name, k.Agent, one)
				}
			}
		}
		// What JSON cannot hold, a file has not either.
		text, err := read.encode()
		if err != nil {
			return
		}
		again, err := decode(text)
		if err != nil {
			t.Fatalf("it is damaged once it is written again: %v\n%s", err, text)
		}
		again.Checksum, read.Checksum = "", ""
		one, _ := json.Marshal(read)
		other, _ := json.Marshal(again)
		if diff := cmp.Diff(string(one), string(other)); diff != "" {
			t.Errorf("it is another once it is written again:\n%s", diff)
		}
	})
}
