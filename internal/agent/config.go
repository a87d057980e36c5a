package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/textfile"
	"pushrelay/internal/yamldoc"
)

// FileConfig is the agent's configuration file. Its words are Prometheus' own, so that a scrape configuration can be
// pasted: what the agent cannot honour is refused or announced, never silently dropped (T23).
type FileConfig struct {
	// ScrapeConfigs are the jobs. Nil if the file does not say which there are; empty if it says that there are none.
	ScrapeConfigs []*ScrapeConfig `yaml:"scrape_configs"`
	// TextfileConfigs are the directories whose *.prom files are pushed. Relative ones start at the configuration file.
	TextfileConfigs []textfile.Directory `yaml:"textfile_configs"`
	// Warnings are the keys that Prometheus knows and the agent leaves to it, one line each.
	Warnings []string `yaml:"-"`
}

// ScrapeConfig is one job: how to scrape its targets, and which they are.
type ScrapeConfig struct {
	// JobName is the label job, unless a target's labels have another. Required, and unique in the file.
	JobName string `yaml:"job_name"`
	// Scheme is http (the default) or https.
	Scheme string `yaml:"scheme"`
	// MetricsPath is /metrics if empty.
	MetricsPath string `yaml:"metrics_path"`
	// Params are query parameters of every scrape.
	Params url.Values `yaml:"params"`
	// ScrapeInterval and ScrapeTimeout are told to Prometheus by service discovery, both or, if they are 0, neither.
	ScrapeInterval model.Duration `yaml:"scrape_interval"`
	ScrapeTimeout  model.Duration `yaml:"scrape_timeout"`
	// HTTPClient is how the agent speaks to the targets: TLS, authentication, proxy. It never leaves the agent.
	HTTPClient config.HTTPClientConfig `yaml:",inline"`
	// StaticConfigs and FileSDConfigs name the targets.
	StaticConfigs []*StaticConfig `yaml:"static_configs"`
	FileSDConfigs []*FileSDConfig `yaml:"file_sd_configs"`

	// Left takes the keys that no field above takes; they were judged before.
	Left map[string]any `yaml:",inline"`
}

// StaticConfig is a list of targets with common labels; also the content of a target file.
type StaticConfig struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels"`
}

// FileSDConfig names files with targets.
type FileSDConfig struct {
	// Files are paths, the last element of which may be a pattern. Relative ones start at the configuration file.
	Files []string `yaml:"files"`
	// RefreshInterval is how often the files are read even if nobody said that they changed; 5m if 0.
	RefreshInterval model.Duration `yaml:"refresh_interval"`
}

// defaultRefreshInterval is Prometheus' own.
const defaultRefreshInterval = 5 * time.Minute

// refusedKeys are keys of a scrape configuration that would change what Prometheus stores if they were ignored.
var refusedKeys = map[string]string{
	"relabel_configs": "write the labels that it makes (job, instance, __param_…) beside targets, in static_configs or a target file; " +
		"Prometheus' job for the relay's /sd/targets may relabel too, but not __address__, which is the relay's there: docs/operations.md, \"Exporters of many targets\"",
	"metric_relabel_configs": "put it into Prometheus' job for the relay's /sd/targets",
}

// leftToPrometheus are keys that concern how Prometheus scrapes and stores. They belong into its own job.
var leftToPrometheus = []string{
	"always_scrape_classic_histograms", "body_size_limit", "convert_classic_histograms_to_nhcb", "enable_compression",
	"extra_scrape_metrics", "fallback_scrape_protocol", "honor_labels", "honor_timestamps", "keep_dropped_targets",
	"label_limit", "label_name_length_limit", "label_value_length_limit", "metric_name_escaping_scheme",
	"metric_name_validation_scheme", "native_histogram_bucket_limit", "native_histogram_min_bucket_factor", "sample_limit",
	"scrape_classic_histograms", "scrape_failure_log_file", "scrape_native_histograms", "scrape_protocols", "target_limit",
	"track_timestamps_staleness",
}

// prometheusSections are the other top-level keys of a Prometheus configuration.
var prometheusSections = []string{"runtime", "rule_files", "scrape_config_files", "alerting", "remote_write", "remote_read", "storage", "tracing", "otlp"}

// LoadConfig reads a configuration file. An empty name is an empty configuration. Errors name the file, and the line where
// there is one.
func LoadConfig(file string) (*FileConfig, error) {
	if file == "" {
		return &FileConfig{}, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg, err := parseConfig(raw, filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", file, err)
	}
	return cfg, nil
}

// parseConfig reads a configuration in which relative paths start at dir.
func parseConfig(raw []byte, dir string) (*FileConfig, error) {
	root, err := yamldoc.Parse(raw)
	if err != nil {
		return nil, err
	}
	cfg := &FileConfig{}
	if root == nil {
		cfg.Warnings = []string{"there is nothing in it: no targets and no text files"}
		return cfg, nil
	}
	warnings, err := judgeKeys(root)
	if err != nil {
		return nil, err
	}
	if raw, err = completeProxyURLs(raw, root); err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&lenient{cfg}); err != nil && !errors.Is(err, io.EOF) {
		return nil, locate(root, err)
	}
	cfg.Warnings = warnings
	global, err := globalTimesOf(root)
	if err != nil {
		return nil, err
	}
	lines := linesOf(root, "scrape_configs")
	seen := map[string]bool{}
	for i, sc := range cfg.ScrapeConfigs {
		if sc == nil {
			return nil, fmt.Errorf("scrape_configs: element %d is empty", i+1)
		}
		if err := sc.validate(); err != nil {
			return nil, fmt.Errorf("line %d: job %q: %w", lines[i], sc.JobName, err)
		}
		if seen[sc.JobName] {
			return nil, fmt.Errorf("line %d: job_name %q comes twice", lines[i], sc.JobName)
		}
		seen[sc.JobName] = true
		alone, err := sc.completeTimes(global)
		if err != nil {
			return nil, fmt.Errorf("line %d: job %q: %w", lines[i], sc.JobName, err)
		}
		if alone {
			cfg.Warnings = append(cfg.Warnings, fmt.Sprintf("line %d: job %q: scrape_timeout has no effect without a scrape_interval, here or in global: Prometheus takes both from its own job", lines[i], sc.JobName))
		}
	}
	if i, err := cfg.checkTargets(); err != nil {
		return nil, fmt.Errorf("line %d: job %q: %w", lines[i], cfg.ScrapeConfigs[i].JobName, err)
	}
	cfg.setDirectory(dir)
	if i, err := textfile.Check(cfg.TextfileConfigs); err != nil {
		return nil, fmt.Errorf("line %d: textfile_configs: %w", linesOf(root, "textfile_configs")[i], err)
	}
	return cfg, nil
}

// lenient decodes a FileConfig beside the other sections of a Prometheus configuration, which were judged before.
type lenient struct{ cfg *FileConfig }

// UnmarshalYAML decodes the section that is ours.
func (l *lenient) UnmarshalYAML(unmarshal func(any) error) error {
	var sections struct {
		FileConfig `yaml:",inline"`
		Left       map[string]any `yaml:",inline"`
	}
	if err := unmarshal(&sections); err != nil {
		return err
	}
	*l.cfg = sections.FileConfig
	return nil
}

// judgeKeys looks at the keys of the file and of each scrape configuration. It returns a warning for each that is left
// to Prometheus.
func judgeKeys(root *yaml.Node) (warnings []string, err error) {
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping with scrape_configs and textfile_configs", root.Line)
	}
	for key, value := range pairs(root) {
		switch {
		case key.Value == "scrape_configs" && value.Kind == yaml.SequenceNode:
			for _, sc := range value.Content {
				more, err := judgeScrapeConfig(sc)
				if err != nil {
					return nil, err
				}
				warnings = append(warnings, more...)
			}
		case key.Value == "textfile_configs" && value.Kind == yaml.SequenceNode:
			for _, directory := range value.Content {
				if err := judgeTextfileConfig(directory); err != nil {
					return nil, err
				}
			}
		case key.Value == "scrape_configs", key.Value == "textfile_configs":
		case key.Value == "global":
			warnings = append(warnings, fmt.Sprintf("line %d: global is Prometheus' own: the agent takes from it only what completes a job's scrape_interval or scrape_timeout", key.Line))
		case slices.Contains(prometheusSections, key.Value):
			warnings = append(warnings, fmt.Sprintf("line %d: %s is Prometheus' own and has no effect on the agent", key.Line, key.Value))
		default:
			return nil, fmt.Errorf("line %d: unknown key %q, want scrape_configs or textfile_configs", key.Line, key.Value)
		}
	}
	return warnings, nil
}

func judgeScrapeConfig(sc *yaml.Node) (warnings []string, err error) {
	if sc.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a scrape configuration is a mapping that begins with job_name", sc.Line)
	}
	known := fieldsOf[ScrapeConfig]()
	for key := range pairs(sc) {
		hint, refused := refusedKeys[key.Value]
		if strings.HasSuffix(key.Value, "_sd_configs") && key.Value != "file_sd_configs" {
			hint, refused = "the agent knows static_configs and file_sd_configs", true
		}
		switch {
		case refused:
			return nil, fmt.Errorf("line %d: %s is not supported by the agent: %s", key.Line, key.Value, hint)
		case slices.Contains(leftToPrometheus, key.Value):
			warnings = append(warnings, fmt.Sprintf("line %d: %s has no effect on the agent: put it into Prometheus' job for the relay's /sd/targets", key.Line, key.Value))
		case !known[key.Value]:
			return nil, fmt.Errorf("line %d: unknown key %q in a scrape configuration", key.Line, key.Value)
		}
	}
	return warnings, nil
}

func judgeTextfileConfig(directory *yaml.Node) error {
	if directory.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: an element of textfile_configs is a mapping with directory and job", directory.Line)
	}
	known := fieldsOf[textfile.Directory]()
	for key := range pairs(directory) {
		if !known[key.Value] {
			return fmt.Errorf("line %d: unknown key %q in textfile_configs, want directory, job and labels", key.Line, key.Value)
		}
	}
	return nil
}

// pairs yields the keys and values of a mapping, merged ones included.
func pairs(mapping *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			key, value := mapping.Content[i], mapping.Content[i+1]
			for value.Kind == yaml.AliasNode {
				value = value.Alias
			}
			if key.Tag == "!!merge" {
				for k, v := range pairs(value) {
					if !yield(k, v) {
						return
					}
				}
				continue
			}
			if !yield(key, value) {
				return
			}
		}
	}
}

// UnmarshalYAML sets the defaults that are not zero.
func (sc *ScrapeConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain ScrapeConfig
	p := plain{Scheme: "http", MetricsPath: "/metrics", HTTPClient: config.DefaultHTTPClientConfig}
	if err := unmarshal(&p); err != nil {
		return err
	}
	*sc = ScrapeConfig(p)
	return nil
}

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

// setDirectory makes relative paths start at the configuration file.
func (c *FileConfig) setDirectory(dir string) {
	for i := range c.TextfileConfigs {
		c.TextfileConfigs[i].Path = config.JoinDir(dir, c.TextfileConfigs[i].Path)
	}
	for _, sc := range c.ScrapeConfigs {
		sc.HTTPClient.SetDirectory(dir)
		for _, files := range sc.FileSDConfigs {
			for i, pattern := range files.Files {
				files.Files[i] = config.JoinDir(dir, pattern)
			}
		}
	}
}
