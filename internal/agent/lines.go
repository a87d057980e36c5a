package agent

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// jobLines returns the line of each scrape configuration.
func jobLines(root *yaml.Node) []int {
	var lines []int
	for _, sc := range scrapeConfigs(root) {
		lines = append(lines, sc.Line)
	}
	return lines
}

func scrapeConfigs(root *yaml.Node) []*yaml.Node {
	for key, value := range pairs(root) {
		if key.Value == "scrape_configs" {
			return value.Content
		}
	}
	return nil
}

// locate puts the line of the setting at fault before an error of decoding. Those of YAML have one; those of single types,
// durations for example, do not.
func locate(root *yaml.Node, err error) error {
	if _, hasLine := errors.AsType[*yaml.TypeError](err); hasLine {
		return plainYAML(err)
	}
	for _, sc := range scrapeConfigs(root) {
		for key, value := range pairs(sc) {
			alone := yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, value}}
			if err := alone.Decode(new(ScrapeConfig)); err != nil {
				return fmt.Errorf("line %d: %s: %w", key.Line, key.Value, plainYAML(err))
			}
		}
	}
	return plainYAML(err)
}
