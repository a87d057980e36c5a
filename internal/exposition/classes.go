package exposition

import "pushrelay/internal/metric"

// byteClass is a set of roles that a byte can have in text 0.0.4.
type byteClass uint8

const (
	labelNameByte  byteClass = 1 << iota // may stand in a legacy label name, if it is not a digit in front
	metricNameByte                       // likewise for metric names
	literalByte                          // means itself in a quoted label value
)

// classes gives the roles of every byte. It is never written to.
var classes = func() (c [256]byteClass) {
	for b := range c {
		behind := []byte{'_', byte(b)}
		if metric.IsLegacyLabelName(behind) {
			c[b] |= labelNameByte
		}
		if metric.IsLegacyMetricName(behind) {
			c[b] |= metricNameByte
		}
		if b != '"' && b != '\\' && b != '\n' {
			c[b] |= literalByte
		}
	}
	return c
}()
