package targets

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// completeProxyURLs checks every proxy_url of a configuration before anybody decodes it, whose errors would hold the URL with
// its password. It returns the text with the scheme before those that have none: the URL of Prometheus' library must have
// one.
func completeProxyURLs(text []byte, root *yaml.Node) ([]byte, error) {
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, node := range proxyURLs(root) {
		if _, err := ParseProxyURL(node.Value, targetProxySchemes...); err != nil {
			return nil, fmt.Errorf("line %d: proxy_url: %w", node.Line, err)
		}
		if strings.Contains(node.Value, schemeEnd) {
			continue
		}
		line := lines[node.Line-1]
		at, ok := startOf(node, line)
		if !ok {
			return nil, fmt.Errorf("line %d: proxy_url: begin it with http%s", node.Line, schemeEnd)
		}
		lines[node.Line-1] = slices.Concat(line[:at], []byte("http"+schemeEnd), line[at:])
	}
	return bytes.Join(lines, nil), nil
}

// proxyURLs returns the values of proxy_url that are not empty, once each, the last of the text first: one can be changed
// without moving those before it.
func proxyURLs(root *yaml.Node) []*yaml.Node {
	var found []*yaml.Node
	collect := func(mapping *yaml.Node) {
		for key, value := range pairs(mapping) {
			if key.Value == "proxy_url" && value.Kind == yaml.ScalarNode && value.Value != "" && !slices.Contains(found, value) {
				found = append(found, value)
			}
		}
	}
	for _, sc := range elements(root, "scrape_configs") {
		collect(sc)
		for key, value := range pairs(sc) {
			if key.Value == "oauth2" && value.Kind == yaml.MappingNode {
				collect(value)
			}
		}
	}
	slices.SortFunc(found, func(a, b *yaml.Node) int {
		return cmp.Or(cmp.Compare(b.Line, a.Line), cmp.Compare(b.Column, a.Column))
	})
	return found
}

// startOf returns where the value of a scalar starts in its line, if that can be told.
func startOf(node *yaml.Node, line []byte) (at int, ok bool) {
	runes := []rune(string(line))
	if node.Column < 1 || node.Column > len(runes) {
		return 0, false
	}
	at = len(string(runes[:node.Column-1]))
	if node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		at++
	}
	return at, bytes.HasPrefix(line[min(at, len(line)):], []byte(node.Value))
}
