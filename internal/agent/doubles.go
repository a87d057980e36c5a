package agent

import (
	"fmt"

	"pushrelay/internal/target"
)

// doubles returns the indexes of the targets that are equal in everything to one before them. Only one of them is announced,
// and who wrote both has meant something else.
func doubles(found []configured) []int {
	var out []int
	for i, name := range assignNames(found) {
		if name == "" {
			out = append(out, i)
		}
	}
	return out
}

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

// checkDoubles returns an error, and the index of its job, if two targets of the file are equal.
func (c *FileConfig) checkDoubles() (job int, err error) {
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
	if twice := doubles(found); len(twice) > 0 {
		return jobs[twice[0]], fmt.Errorf("static_configs: %s", describeDouble(found[twice[0]].target))
	}
	return 0, nil
}
