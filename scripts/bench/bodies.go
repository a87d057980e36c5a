package main

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// A shape says what groups look like.
type shape struct {
	groups int
	lines  int // of each group
	// unique gives every series label values that no other has, and ownNames every group metric names of its own. Otherwise
	// all groups have the same series but for the labels of their grouping key, as many instances of one job do.
	unique, ownNames bool
}

func (s shape) series() int { return s.groups * s.lines }

func (s shape) String() string {
	text := fmt.Sprintf("%d x %d", s.groups, s.lines)
	if s.unique {
		text += ", nothing shared"
	}
	if s.ownNames {
		text += ", nor metric names"
	}
	return text
}

// histogramLines are those of one histogram: eleven buckets, the sum and the count.
const histogramLines = 13

// histograms returns how many there are among the lines of a group: three in a hundred, one in fifty.
func (s shape) histograms() int { return s.lines * 3 / 100 }

// body returns what the group pushes, in text. The salt makes its values.
func (s shape) body(group, salt int) []byte {
	dst := make([]byte, 0, 256*s.lines)
	line := 0
	for ; line < s.histograms()*histogramLines; line += histogramLines {
		dst = s.appendHistogram(dst, group, line, salt)
	}
	for ; line < s.lines; line++ {
		if line%2 == 0 {
			name := s.name("worker_queue_depth_", group, line, "_jobs")
			dst = fmt.Appendf(dst, "# HELP %[1]s Jobs that wait in this queue.\n# TYPE %[1]s gauge\n%[1]s", name)
			dst = append(s.appendLabels(dst, group, line), "} "...)
			dst = strconv.AppendFloat(dst, 0.25*float64(mix(group, line, salt)%40_000), 'g', -1, 64)
		} else {
			name := s.name("worker_requests_", group, line, "_total")
			dst = fmt.Appendf(dst, "# HELP %[1]s Requests that were served.\n# TYPE %[1]s counter\n%[1]s", name)
			dst = append(s.appendLabels(dst, group, line), "} "...)
			dst = strconv.AppendUint(dst, uint64(mix(group, line, salt)%1_000_000), 10)
		}
		dst = append(dst, '\n')
	}
	return dst
}

// name returns the name of the metric family that begins in that line of a group.
func (s shape) name(prefix string, group, line int, suffix string) string {
	if s.ownNames {
		return fmt.Sprintf("%s%d_%d%s", prefix, group, line, suffix)
	}
	return fmt.Sprintf("%s%d%s", prefix, line, suffix)
}

func (s shape) appendHistogram(dst []byte, group, line, salt int) []byte {
	name := s.name("worker_request_duration_", group, line, "_seconds")
	dst = fmt.Appendf(dst, "# HELP %[1]s How long requests took.\n# TYPE %[1]s histogram\n", name)
	labels := s.appendLabels(nil, group, line)
	count := 0
	for bucket := range histogramLines - 3 {
		count += int(mix(group, line+bucket, salt) % 1000)
		dst = fmt.Appendf(dst, "%s_bucket%s,le=\"%g\"} %d\n", name, labels, 0.01*float64(bucket+1), count)
	}
	return fmt.Appendf(dst, "%[1]s_bucket%[2]s,le=\"+Inf\"} %[3]d\n%[1]s_sum%[2]s} %[4]g\n%[1]s_count%[2]s} %[3]d\n", name, labels, count, 0.05*float64(count))
}

// appendLabels appends three labels, without the closing brace.
func (s shape) appendLabels(dst []byte, group, line int) []byte {
	if s.unique {
		return fmt.Appendf(dst, `{endpoint="/api/v2/%[1]d/%[2]d",region="eu-%[1]d-%[2]d",tenant="customer-%[1]d-%[2]d"`, group, line)
	}
	return fmt.Appendf(dst, `{endpoint="/api/v2/resource-%02d/detail",region="eu-central-1",tenant="customer-production"`, line%7)
}

// mix returns a number that looks like any other. Values have to differ, or compressors would have an easy day.
func mix(a, b, c int) uint32 {
	h := uint64(a)*0x9e3779b97f4a7c15 + uint64(b)*0xc2b2ae3d27d4eb4f + uint64(c)*0x165667b19e3779f9
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return uint32(h >> 32)
}

// path returns where the group is pushed.
func (s shape) path(group int) string {
	return fmt.Sprintf("/metrics/job/batch/instance/host-%06d.example.com:9100", group)
}

const (
	textType     = "text/plain; version=0.0.4; charset=utf-8"
	protobufType = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

// toProtobuf returns a body in text as delimited protobuf, as Go programs push it.
func toProtobuf(text []byte) ([]byte, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("parsing a body: %w", err)
	}
	var out bytes.Buffer
	encoder := expfmt.NewEncoder(&out, expfmt.NewFormat(expfmt.TypeProtoDelim))
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return nil, fmt.Errorf("encoding a body: %w", err)
		}
	}
	return out.Bytes(), nil
}
