package exposition

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"pushrelay/internal/metric"
)

// Format is an exposition format.
type Format uint8

// The formats. Pushes come in the first two; the zero value is what everything is that does not say otherwise.
const (
	Text004           Format = iota // text/plain; version=0.0.4
	ProtobufDelimited               // io.prometheus.client.MetricFamily, each after its length
	ProtobufText                    // the same as protobuf text, on many lines
	ProtobufCompact                 // the same as protobuf text, one family a line
	OpenMetrics100                  // OpenMetrics text 1.0.0
)

// FormatOfPush returns the format of a pushed body with the given Content-Type. It is ProtobufDelimited only for the whole
// of application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited, and Text004 for all
// else, as the Pushgateway has it: clients push text under whatever type their HTTP library makes up.
func FormatOfPush(contentType string) Format {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != expfmt.ProtoType {
		return Text004
	}
	if params["proto"] != expfmt.ProtoProtocol || params["encoding"] != "delimited" {
		return Text004
	}
	return ProtobufDelimited
}

// Offers is what a handler can serve beyond the formats that are always on offer.
type Offers struct {
	// OpenMetrics offers OpenMetrics100 to scrapers that ask for it (S15).
	OpenMetrics bool
}

// Negotiate returns the format and the escaping of names for a scrape with the given Accept header. Without a match it is
// Text004. The choice is the one that Prometheus' own exporters make.
func Negotiate(accept string, offers Offers) (Format, metric.Escaping) {
	formats := expfmt.DefaultAcceptedFormats()
	if offers.OpenMetrics {
		formats = append([]expfmt.Format{expfmt.FmtOpenMetrics_1_0_0}, formats...)
	}
	chosen := expfmt.NegotiateAccept(http.Header{"Accept": {accept}}, formats...)
	return formatOf(chosen.FormatType()), metric.EscapingOf(chosen.ToEscapingScheme())
}

func formatOf(t expfmt.FormatType) Format {
	switch t {
	case expfmt.TypeProtoDelim:
		return ProtobufDelimited
	case expfmt.TypeProtoText:
		return ProtobufText
	case expfmt.TypeProtoCompact:
		return ProtobufCompact
	case expfmt.TypeOpenMetrics:
		return OpenMetrics100
	default:
		return Text004
	}
}

// ContentType returns the Content-Type of an exposition in the format with the given escaping, letter by letter as
// Prometheus' own exporters send it.
func (f Format) ContentType(e metric.Escaping) string {
	return string(f.expfmt()) + "; " + model.EscapingKey + "=" + e.String()
}

func (f Format) expfmt() expfmt.Format {
	switch f {
	case ProtobufDelimited:
		return expfmt.FmtProtoDelim
	case ProtobufText:
		return expfmt.FmtProtoText
	case ProtobufCompact:
		return expfmt.FmtProtoCompact
	case OpenMetrics100:
		return expfmt.FmtOpenMetrics_1_0_0
	default:
		return expfmt.FmtText
	}
}

// Encoding is a content encoding of a scrape's answer.
type Encoding uint8

// The content encodings on offer. The zero value leaves the answer as it is.
const (
	Identity Encoding = iota
	Gzip
)

// String returns the name of the encoding in HTTP headers.
func (e Encoding) String() string {
	if e == Gzip {
		return "gzip"
	}
	return "identity"
}

// NegotiateEncoding returns the content encoding for an Accept-Encoding header: Gzip where the header accepts it and does
// not like Identity better, else Identity, even where the header excludes that one: an answer that can be read most likely
// is worth more than none. Weights that are no numbers count as 0.
func NegotiateEncoding(acceptEncoding string) Encoding {
	gzip, identity, rest := -1.0, -1.0, -1.0
	for clause := range strings.SplitSeq(acceptEncoding, ",") {
		coding, params, _ := strings.Cut(clause, ";")
		weight := weightOf(params)
		switch strings.ToLower(strings.TrimSpace(coding)) {
		case "gzip", "x-gzip":
			gzip = max(gzip, weight)
		case "identity":
			identity = max(identity, weight)
		case "*":
			rest = max(rest, weight)
		}
	}
	if gzip < 0 {
		gzip = rest
	}
	if gzip > 0 && gzip >= identity {
		return Gzip
	}
	return Identity
}

// weightOf reads the q of the parameters of one clause; it is 1 where there is none.
func weightOf(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		weight, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(weight >= 0 && weight <= 1) {
			return 0
		}
		return weight
	}
	return 1
}
