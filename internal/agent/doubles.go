package agent

import (
	"fmt"

	"pushrelay/internal/target"
)

// assignNames returns the names of all targets of an agent, empty for those that are equal to one before them.
func assignNames(found []configured) []string {
	targets := make([]target.Target, 0, len(found))
	for _, c := range found {
		targets = append(targets, c.nameOf())
	}
	return target.AssignNames(targets)
}

// describeDouble says which target comes twice.
func describeDouble(t target.Target) string {
	return fmt.Sprintf("target %q comes twice, with the same job %q, instance and labels", t.Address, t.Job)
}

// checkTargets returns an error, and the index of its job, if two targets of the file are equal or all of them are more than a relay
// takes.
func (c *FileConfig) checkTargets() (job int, err error) {
	var found []configured
	var jobs []int
	for i, sc := range c.ScrapeConfigs {
		more, err := sc.targets(sc.StaticConfigs)
		if err != nil {
			return i, err
		}
		for _, t := range more {
			found, jobs = append(found, t), append(jobs, i)
		}
	}
	var count target.Count
	for i, name := range assignNames(found) {
		t := found[i].target
		if t.Name = name; name == "" {
			return jobs[i], fmt.Errorf("static_configs: %s", describeDouble(t))
		}
		if err := count.Add(t.Bytes(), len(t.Labels)); err != nil {
			return jobs[i], fmt.Errorf("static_configs: up to target %q %w", t.Address, err)
		}
	}
	return 0, nil
}
