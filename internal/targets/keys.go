package targets

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/pushrules"
	"pushrelay/internal/textfile"
	"pushrelay/internal/yamldoc"
)

// refusedKeys are keys of a scrape configuration that would change what Prometheus stores if they were ignored.
var refusedKeys = map[string]string{
	"relabel_configs": "write the labels that it makes (job, instance, __param_…) beside targets, in static_configs or a target file; " +
		"Prometheus' job for the relay's /sd/targets may relabel too, but not __address__, which is the relay's there: docs/how-to/blackbox-and-snmp.md",
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

// judgeKeys looks at the keys of the file and of each scrape configuration. It returns a warning for each that is left
// to Prometheus.
func judgeKeys(root *yaml.Node) (warnings []string, err error) {
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping with scrape_configs, textfile_configs and push_rules", root.Line)
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
		case key.Value == "scrape_configs", key.Value == "textfile_configs", key.Value == pushrules.Key:
		case key.Value == "global":
			warnings = append(warnings, fmt.Sprintf("line %d: global is Prometheus' own: the agent takes from it only what completes a job's scrape_interval or scrape_timeout", key.Line))
		case slices.Contains(prometheusSections, key.Value):
			warnings = append(warnings, fmt.Sprintf("line %d: %s is Prometheus' own and has no effect on the agent", key.Line, key.Value))
		default:
			return nil, fmt.Errorf("line %d: unknown key %s, want scrape_configs, textfile_configs or push_rules", key.Line, yamldoc.Key(key.Value))
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
			return nil, fmt.Errorf("line %d: unknown key %s in a scrape configuration", key.Line, yamldoc.Key(key.Value))
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
			return fmt.Errorf("line %d: unknown key %s in textfile_configs, want directory, job, labels, every, grace and ttl", key.Line, yamldoc.Key(key.Value))
		}
	}
	return nil
}

// pairs yields the keys and values of a mapping, merged ones included. What is merged twice, or into itself, comes once.
func pairs(mapping *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		seen := map[*yaml.Node]bool{mapping: true}
		for left := []*yaml.Node{mapping}; len(left) > 0; left = left[1:] {
			for i := 0; i+1 < len(left[0].Content); i += 2 {
				key, value := left[0].Content[i], aliased(left[0].Content[i+1])
				if key.Tag == mergeTag {
					left = append(left, unseen(value, seen)...)
				} else if !yield(key, value) {
					return
				}
			}
		}
	}
}

const mergeTag = "!!merge"

// aliased returns the node that an alias stands for.
func aliased(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// unseen returns the mappings that a merge names, one or a list of them, which are not among the seen ones, and adds them to those.
func unseen(merged *yaml.Node, seen map[*yaml.Node]bool) (mappings []*yaml.Node) {
	named := []*yaml.Node{merged}
	if merged.Kind == yaml.SequenceNode {
		named = merged.Content
	}
	for _, node := range named {
		if node = aliased(node); node.Kind == yaml.MappingNode && !seen[node] {
			seen[node] = true
			mappings = append(mappings, node)
		}
	}
	return mappings
}

// fieldsOf returns the YAML keys of a struct, those of inlined structs included.
func fieldsOf[T any]() map[string]bool {
	keys := map[string]bool{}
	collectFields(reflect.TypeFor[T](), keys)
	return keys
}

func collectFields(t reflect.Type, keys map[string]bool) {
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(options, "inline") && field.Type.Kind() == reflect.Struct:
			collectFields(field.Type, keys)
		case name != "" && name != "-":
			keys[name] = true
		}
	}
}
