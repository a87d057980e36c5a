package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/scrape"
	"pushrelay/internal/target"
	"pushrelay/internal/textfile"
)

// CheckedConfig is what a configuration file would make the agent do.
type CheckedConfig struct {
	// Jobs are the names of the jobs, Targets what all of them announce.
	Jobs    []string
	Targets []target.Target
	// Textfiles are the directories with text files.
	Textfiles []textfile.Directory
	// Warnings are those that a running agent logs.
	Warnings []string
	// BadFiles are target files that cannot be used as they are, each with its reason. A running agent keeps what they held
	// before; a target that comes twice counts once.
	BadFiles []string
}

// CheckConfig reads a configuration file, and all that it names, as an agent does when it starts. It starts nothing.
func CheckConfig(file string) (*CheckedConfig, error) {
	cfg, err := LoadConfig(file)
	if err != nil {
		return nil, err
	}
	d := newTargetDiscovery(scrape.NewHTTPScraper(), func(target.Set) {}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	defer d.stop()
	if err := d.apply(cfg); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	out := &CheckedConfig{Targets: d.targets(), Textfiles: cfg.TextfileConfigs, Warnings: append(cfg.Warnings, cfg.lookAround()...)}
	for _, sc := range cfg.ScrapeConfigs {
		out.Jobs = append(out.Jobs, sc.JobName)
	}
	for _, name := range slices.Sorted(maps.Keys(d.files.failed)) {
		out.BadFiles = append(out.BadFiles, name+": "+d.files.failed[name])
	}
	for _, double := range d.doubles {
		out.BadFiles = append(out.BadFiles, "target files: "+double)
	}
	if d.tooMany != "" {
		out.BadFiles = append(out.BadFiles, "target files: "+d.tooMany)
	}
	for _, name := range slices.Sorted(maps.Keys(d.files.odd)) {
		out.Warnings = append(out.Warnings, name+": "+d.files.odd[name])
	}
	return out, nil
}
