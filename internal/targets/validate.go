package targets

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"pushrelay/internal/target"
)

func (sc *ScrapeConfig) validate() error {
	if sc.JobName == "" {
		return errors.New("job_name is missing")
	}
	if sc.Scheme != "http" && sc.Scheme != "https" {
		return fmt.Errorf("scheme is %q, want http or https", sc.Scheme)
	}
	if !strings.HasPrefix(sc.MetricsPath, "/") {
		return fmt.Errorf("metrics_path %q does not begin with a slash", sc.MetricsPath)
	}
	if err := checkPath("metrics_path", sc.MetricsPath); err != nil {
		return err
	}
	for _, path := range sc.ProxyPaths {
		if err := checkProxyPath(path); err != nil {
			return err
		}
	}
	if err := sc.HTTPClient.Validate(); err != nil {
		return err
	}
	if sc.HTTPClient.ProxyFromEnvironment {
		if err := checkProxyOfEnvironment(); err != nil {
			return err
		}
	}
	for i, static := range sc.StaticConfigs {
		if static == nil {
			return fmt.Errorf("static_configs: element %d is empty", i+1)
		}
	}
	for i, files := range sc.FileSDConfigs {
		if files == nil || len(files.Files) == 0 {
			return fmt.Errorf("file_sd_configs: element %d names no files", i+1)
		}
		for _, pattern := range files.Files {
			if _, err := filepath.Match(pattern, ""); err != nil {
				return fmt.Errorf("file_sd_configs: %q is no valid pattern", pattern)
			}
		}
	}
	// The static targets are all there is to check without reading another file.
	_, err := sc.targets(sc.StaticConfigs)
	return err
}

// checkProxyPath refuses a path that no request can have, or that means less than it says.
func checkProxyPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("proxy_paths: %q does not begin with a slash", path)
	case strings.ContainsAny(path, "?#"):
		return fmt.Errorf("proxy_paths: %q is more than a path: a request for it may have any parameters, leave out what begins with ? or #", path)
	case strings.Contains(path, "*"):
		return fmt.Errorf("proxy_paths: %q looks like a pattern: every path is listed by itself (a star in a path is written %%2A)", path)
	}
	return nil
}

// checkTargets returns an error, and the index of its job, if two targets of the file are equal or all of them are more than a relay
// takes.
func (c *Config) checkTargets() (job int, err error) {
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
			return jobs[i], fmt.Errorf("static_configs: %s", describeDuplicate(t))
		}
		if err := count.Add(t.Bytes(), len(t.Labels)); err != nil {
			return jobs[i], fmt.Errorf("static_configs: up to target %q %w", t.Address, err)
		}
	}
	return 0, nil
}
