package targets

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/lifetime"
	"pushrelay/internal/pushrules"
	"pushrelay/internal/textfile"
	"pushrelay/internal/yamldoc"
)

// Config is the agent's configuration file. Its words are Prometheus' own, so that a scrape configuration can be
// pasted: what the agent cannot honour is refused or announced, never silently dropped (T23).
type Config struct {
	// ScrapeConfigs are the jobs. Nil if the file does not say which there are; empty if it says that there are none.
	ScrapeConfigs []*ScrapeConfig `yaml:"scrape_configs"`
	// TextfileConfigs are the directories whose *.prom files are pushed. Relative ones start at the configuration file.
	TextfileConfigs []textfile.Directory `yaml:"textfile_configs"`
	// PushRules say which pushes that enter at the agent are added up (L11).
	PushRules []lifetime.Rule `yaml:"-"`
	// Warnings are the keys that Prometheus knows and the agent leaves to it, one line each.
	Warnings []string `yaml:"-"`

	file string // its name, for errors
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
	// ProxyPaths are the paths that relays may ask for as a proxy, with any parameters. Nil stands for MetricsPath alone; empty for none.
	ProxyPaths []string `yaml:"proxy_paths"`
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

// Load reads a configuration file. An empty name is an empty configuration. Errors name the file, and the line where
// there is one.
func Load(file string) (*Config, error) {
	if file == "" {
		return &Config{}, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg, err := parse(raw, filepath.Dir(file))
	if err != nil {
		return nil, inFile(file, err)
	}
	cfg.file = file
	return cfg, nil
}

// inFile says in which configuration file something is wrong.
func inFile(file string, err error) error { return fmt.Errorf("configuration %s: %w", file, err) }

// parse reads a configuration in which relative paths start at dir.
func parse(raw []byte, dir string) (*Config, error) {
	root, err := yamldoc.Parse(raw)
	if err != nil {
		return nil, err
	}
	cfg := &Config{}
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
	if cfg.PushRules, err = pushRulesOf(root); err != nil {
		return nil, err
	}
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

// pushRulesOf reads the push rules of the file.
func pushRulesOf(root *yaml.Node) ([]lifetime.Rule, error) {
	for key, value := range pairs(root) {
		if key.Value == pushrules.Key {
			return pushrules.AtAgent(key.Line, value)
		}
	}
	return nil, nil
}

// lenient decodes a Config beside the other sections of a Prometheus configuration, which were judged before.
type lenient struct{ cfg *Config }

// UnmarshalYAML decodes the section that is ours.
func (l *lenient) UnmarshalYAML(unmarshal func(any) error) error {
	var sections struct {
		Config `yaml:",inline"`
		Left   map[string]any `yaml:",inline"`
	}
	if err := unmarshal(&sections); err != nil {
		return err
	}
	*l.cfg = sections.Config
	return nil
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

// setDirectory makes relative paths start at the configuration file.
func (c *Config) setDirectory(dir string) {
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
