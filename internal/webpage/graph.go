package webpage

import (
	"fmt"
	"math"
	"strings"
)

// The size of a graph in its own units; a page stretches it.
const (
	graphWidth  = 240
	graphHeight = 48
)

// A Graph is bars that the part "graph" draws.
type Graph struct {
	Name, Figure string // Figure is what it comes to, beside the name
	Words        string // what it shows, for those who do not see it
	From, To     string // what stands below its ends
	Width        int
	Height       int
	Good, Bad    string // paths; Bad stands in front
}

// NewGraph draws one bar for each point: the whole, and of that what is bad, which may be nil. Name, figure, words and ends are left to the caller.
func NewGraph(whole, bad []float64) Graph {
	most := 0.0
	for _, v := range whole {
		if isBar(v) {
			most = max(most, v)
		}
	}
	return Graph{Width: graphWidth, Height: graphHeight, Good: bars(whole, most), Bad: bars(bad, most)}
}

// isBar says whether there is a bar for a value: not for nothing, nor for what has no height.
func isBar(v float64) bool { return v > 0 && !math.IsInf(v, +1) }

// bars returns the path of one bar for each value, the highest as high as the graph. A value that is not 0 is seen.
func bars(values []float64, most float64) string {
	if most <= 0 {
		return ""
	}
	var path strings.Builder
	step := graphWidth / float64(len(values))
	for i, v := range values {
		if !isBar(v) {
			continue
		}
		height := max(v/most*graphHeight, 1)
		fmt.Fprintf(&path, "M%.2f %dv-%.2fh%.2fv%.2fz", float64(i)*step, graphHeight, height, max(step*0.8, 0.5), height)
	}
	return path.String()
}
