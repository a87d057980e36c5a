package targets

import (
	"log/slog"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"pushrelay/internal/target"
	"pushrelay/internal/textfile"
)

// Checked is what a configuration file would make the agent do.
type Checked struct {
	// Jobs are the names of the jobs, Targets what all of them announce.
	Jobs    []string
	Targets []target.Target
	// Textfiles are the directories with text files.
	Textfiles []textfile.Directory
	// PushRules counts the push rules.
	PushRules int
	// Warnings are those that a running agent logs.
	Warnings []string
	// BadFiles are target files that cannot be used as they are, each with its reason. A running agent keeps what they held
	// before; a target that comes twice counts once.
	BadFiles []string
}

// Check reads a configuration file, and all that it names, as an agent does when it starts. It starts nothing.
func Check(file string) (*Checked, error) {
	cfg, err := Load(file)
	if err != nil {
		return nil, err
	}
	d := NewDiscovery(DiscoveryConfig{
		Announce: func(target.Set) {}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	defer d.Close()
	if err := d.Apply(cfg); err != nil {
		return nil, err
	}
	out := &Checked{Textfiles: cfg.TextfileConfigs, PushRules: len(cfg.PushRules), Warnings: append(cfg.Warnings, cfg.FileWarnings()...)}
	for _, e := range d.announced {
		out.Targets = append(out.Targets, e.Target)
	}
	for _, sc := range cfg.ScrapeConfigs {
		out.Jobs = append(out.Jobs, sc.JobName)
	}
	for _, name := range slices.Sorted(maps.Keys(d.files.failed)) {
		out.BadFiles = append(out.BadFiles, name+": "+d.files.failed[name])
	}
	for _, duplicate := range d.duplicates {
		out.BadFiles = append(out.BadFiles, "target files: "+duplicate)
	}
	if d.tooMany != "" {
		out.BadFiles = append(out.BadFiles, "target files: "+d.tooMany)
	}
	for _, name := range slices.Sorted(maps.Keys(d.files.empty)) {
		out.Warnings = append(out.Warnings, name+": "+d.files.empty[name])
	}
	return out, nil
}
