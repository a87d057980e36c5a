package targets

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"pushrelay/internal/yamldoc"
)

// linesOf returns the line of each element of a section.
func linesOf(root *yaml.Node, section string) []int {
	var lines []int
	for _, element := range elements(root, section) {
		lines = append(lines, element.Line)
	}
	return lines
}

func elements(root *yaml.Node, section string) []*yaml.Node {
	for key, value := range pairs(root) {
		if key.Value == section {
			return value.Content
		}
	}
	return nil
}

// locate puts the line of the setting at fault before an error of decoding. Those of YAML have one; those of single types,
// durations for example, do not.
func locate(root *yaml.Node, err error) error {
	if _, hasLine := errors.AsType[*yaml.TypeError](err); hasLine {
		return yamldoc.Plain(err)
	}
	for _, sc := range elements(root, "scrape_configs") {
		for key, value := range pairs(sc) {
			alone := yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, value}}
			if err := alone.Decode(new(ScrapeConfig)); err != nil {
				return fmt.Errorf("line %d: %s: %w", key.Line, key.Value, yamldoc.Plain(err))
			}
		}
	}
	return yamldoc.Plain(err)
}
