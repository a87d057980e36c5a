package target_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pushrelay/internal/target"
)

func make1(job, address string) target.Target {
	return target.Target{Name: "unnamed", Job: job, Instance: address, Address: address, Scheme: "http", MetricsPath: "/metrics"}
}

func TestAssignNames(t *testing.T) {
	other := make1("node", "localhost:9100")
	other.MetricsPath = "/other"
	targets := []target.Target{
		make1("node", "localhost:9100"), make1("app", "localhost:8080"), other, make1("node", "localhost:9100"),
		make1("a", "b-c:1"), make1("a-b", "c:1"), make1("späh", "[::1]:80"), make1(strings.Repeat("x", 500), "h:1"),
	}
	names := target.AssignNames(targets)
	if names[1] != "app-localhost:8080" {
		t.Errorf("the name of a target that nothing is like = %q", names[1])
	}
	if names[3] != "" {
		t.Errorf("a target that is there already got the name %q", names[3])
	}
	seen := map[string]bool{}
	for i, name := range names {
		if i == 3 {
			continue
		}
		named := targets[i]
		named.Name = name
		if err := named.Validate(); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
		if seen[name] {
			t.Errorf("name %q comes twice", name)
		}
		seen[name] = true
	}
	slices.Reverse(targets)
	again := target.AssignNames(targets)
	slices.Reverse(again)
	again[0], again[3] = again[3], again[0] // which of two equal ones is named depends on their order, as it may
	if !slices.Equal(names, again) {
		t.Errorf("names depend on the order:\n%q\n%q", names, again)
	}
}

// labels are n with values of so many bytes.
func labels(n, bytes int) []target.Label {
	var out []target.Label
	for i := range n {
		out = append(out, target.Label{Name: fmt.Sprintf("l%02d", i), Value: strings.Repeat("x", bytes)})
	}
	return out
}

// A set has bounds, whatever its targets are.
func TestSetsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		targets, labels, bytes int
		valid                  bool
	}{
		{20000, 2, 60, true}, {20001, 0, 0, false}, {400, 10, 1000, true}, {420, 10, 1000, false}, {6000, 64, 1000, false},
	} {
		set := make([]target.Target, tt.targets)
		for i := range set {
			set[i] = make1("j", "localhost:1")
			set[i].Name, set[i].Labels = fmt.Sprint(i), labels(tt.labels, tt.bytes)
		}
		if err := target.ValidateSet(set); (err == nil) != tt.valid {
			t.Errorf("%d targets with %d labels of %d bytes: %v", tt.targets, tt.labels, tt.bytes, err)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := make1("j", "localhost:1").Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*target.Target){
		"name":            func(x *target.Target) { x.Name = "a/b" },
		"no name":         func(x *target.Target) { x.Name = "" },
		"itself":          func(x *target.Target) { x.Name = "." },
		"above":           func(x *target.Target) { x.Name = ".." },
		"no job":          func(x *target.Target) { x.Job = "" },
		"scheme":          func(x *target.Target) { x.Scheme = "file" },
		"path":            func(x *target.Target) { x.MetricsPath = "metrics" },
		"no port":         func(x *target.Target) { x.Address = "localhost" },
		"port 0":          func(x *target.Target) { x.Address = "localhost:0" },
		"port 65536":      func(x *target.Target) { x.Address = "localhost:65536" },
		"user":            func(x *target.Target) { x.Address = "a@b:1" },
		"no UTF-8":        func(x *target.Target) { x.Instance = "\xff" },
		"long":            func(x *target.Target) { x.Instance = strings.Repeat("x", 2000) },
		"reserved label":  func(x *target.Target) { x.Labels = []target.Label{{Name: "__x", Value: "1"}} },
		"unsorted labels": func(x *target.Target) { x.Labels = []target.Label{{Name: "b"}, {Name: "a"}} },
		"label twice":     func(x *target.Target) { x.Labels = []target.Label{{Name: "a"}, {Name: "a"}} },
		"many labels":     func(x *target.Target) { x.Labels = make([]target.Label, 100) },
		"interval":        func(x *target.Target) { x.ScrapeInterval = -1 },
		"long label name": func(x *target.Target) { x.Labels = []target.Label{{Name: strings.Repeat("x", 16<<10)}} },
		"long labels":     func(x *target.Target) { x.Labels = labels(17, 1000) },
	} {
		spoiled := make1("j", "localhost:1")
		spoil(&spoiled)
		if err := spoiled.Validate(); err == nil {
			t.Errorf("%s: %+v is called valid", name, spoiled)
		}
	}
	most := make1("j", "localhost:1")
	most.Labels = labels(16, 1000)
	if err := most.Validate(); err != nil {
		t.Errorf("16 labels of 1000 bytes: %v", err)
	}
	if err := target.ValidateSet([]target.Target{make1("j", "a:1"), make1("j", "b:1")}); err == nil {
		t.Error("a name that comes twice is called valid")
	}
}
