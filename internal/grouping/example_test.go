package grouping_test

import (
	"fmt"

	"pushrelay/internal/grouping"
	"pushrelay/internal/metric"
)

func ExampleFromPath() {
	// PUT /metrics/job/backup/path@base64/L3Zhci90bXA
	k, err := grouping.FromPath(grouping.Path{Job: "backup", Labels: "/path@base64/L3Zhci90bXA"}, metric.LegacyNames)
	fmt.Println(k, err)
	_, err = grouping.FromPath(grouping.Path{Job: "backup", Labels: "/instance"}, metric.LegacyNames)
	fmt.Println(err)
	// Output:
	// {job="backup",path="/var/tmp"} <nil>
	// odd number of components in label string "/instance"
}

func ExampleKey_Path() {
	k, err := grouping.New(grouping.Label{Name: "job", Value: "nightly backup"}, grouping.Label{Name: "instance", Value: ""})
	fmt.Println(k.Path(), err)
	fmt.Println(k.With("agent", "site-a").Path())
	// Output:
	// job/nightly%20backup/instance@base64/= <nil>
	// job/nightly%20backup/agent/site-a/instance@base64/=
}
