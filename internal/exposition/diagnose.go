package exposition

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"pushrelay/internal/metric"
)

// Diagnose returns the text of an error that parsing a pushed body ended with. Where the body can be seen to be something else than
// its pusher thought, such as compressed or from another system, that and a way to send it as it should be follow the error.
// Nothing of the body is quoted but what the error itself quotes.
func Diagnose(err error, f Format, body []byte) string {
	parse, ok := errors.AsType[*ParseError](err)
	if !ok {
		return err.Error()
	}
	found := look(f, parse, body)
	if found == nil {
		return err.Error()
	}
	return err.Error() + "; the body " + found.looks + ": " + found.push
}

// DiagnoseFile is [Diagnose] for a text that a program of this project read itself, from a file whose owner reads the error.
func DiagnoseFile(err error, content []byte) string {
	parse, ok := errors.AsType[*ParseError](err)
	if !ok {
		return err.Error()
	}
	return err.Error() + ofFile(look(Text004, parse, content))
}

// ofFile returns what is said of a file for a mistake, behind what else is said; empty without one.
func ofFile(found *mistake) string {
	if found == nil {
		return ""
	}
	said := "; the file " + found.looks
	if found.file != "" {
		said += ": " + found.file
	}
	return said
}

// A mistake is what a body or file is or has that keeps it from being read.
type mistake struct {
	looks string // what follows "the body" or "the file"
	push  string // what sends it as it should be
	file  string // what writes it as it should be; empty if it is no metrics at all
}

var (
	isUTF16 = &mistake{
		"is UTF-16, as PowerShell writes it", "send it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE | curl --data-binary @- URL",
		"write it as UTF-8 (in PowerShell: Out-File -Encoding utf8)",
	}
	beginsWithBOM = &mistake{
		"begins with a byte order mark", "send it without: sed '1s/^\\xEF\\xBB\\xBF//' FILE | curl --data-binary @- URL",
		"write it without",
	}
	lineBeginsWithBOM = &mistake{
		"has a byte order mark at the start of that line, as if files were joined", "send it without",
		"write it without",
	}
	isGzip = &mistake{
		"is a gzip stream", "send the header that says so: curl -H 'Content-Encoding: gzip' --data-binary @FILE URL, or decompress it first",
		"decompress it",
	}
	isSnappy = &mistake{
		"is a snappy stream", "send the header that says so: curl -H 'Content-Encoding: snappy' --data-binary @FILE URL, or decompress it first",
		"decompress it",
	}
	isZstd = &mistake{
		"is a zstd stream", "decompress it first, gzip and snappy alone are taken as they are: zstd -dc FILE | curl --data-binary @- URL",
		"decompress it",
	}
	isCompressed = &mistake{
		"is compressed", "decompress it first, gzip and snappy alone are taken as they are",
		"decompress it",
	}
	isForm = &mistake{
		"is a form of several parts, as curl -F sends it", "send the file alone: curl --data-binary @FILE URL",
		"",
	}
	isURLEncoded = &mistake{
		"is URL-encoded, as forms and curl --data-urlencode send it", "send it as it is: curl --data-binary @FILE URL",
		"",
	}
	isMarkup = &mistake{
		"is HTML or XML", "look at what made it, which may have got the error page of another server instead of metrics",
		"",
	}
	isJSON = &mistake{
		"is JSON", "send the text format, a line such as NAME{LABEL=\"VALUE\"} 1 for each sample",
		"write the text format, a line such as NAME{LABEL=\"VALUE\"} 1 for each sample",
	}
	isPEM = &mistake{
		"is PEM, such as keys and certificates are in", "look at what was given to be sent",
		"",
	}
	isProtobuf = &mistake{
		"is protobuf",
		"send the header that says so: curl -H 'Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited' --data-binary @FILE URL",
		"write the text format",
	}
	isText = &mistake{"is text, although its Content-Type header says protobuf", "send it without that header", ""}

	hasNoLineFeed = &mistake{
		"has no line feed",
		"curl -d @FILE drops them, use curl --data-binary @FILE URL; and a single line needs one too: echo 'NAME 1' | curl --data-binary @- URL",
		"end each line with a line feed",
	}
	lacksLastLineFeed = &mistake{
		"has no line feed at its end, which its last line needs",
		"end the file with one (echo >>FILE) and send it with curl --data-binary @FILE URL; the shell's \"$(cat FILE)\" drops it",
		"end it with one",
	}
	hasCRLF = &mistake{
		"has CR LF where lines end, as on Windows", "send LF alone: tr -d '\\r' <FILE | curl --data-binary @- URL",
		"end lines with LF alone",
	}
	hasExemplar = &mistake{
		"is OpenMetrics with an exemplar, and the text format 0.0.4 has none", "ask for the text format where it comes from: curl -H 'Accept: text/plain; version=0.0.4'",
		"write the text format 0.0.4",
	}
	isOpenMetrics = &mistake{
		"is OpenMetrics, and that line is none of the text format 0.0.4", "ask for the text format where it comes from: curl -H 'Accept: text/plain; version=0.0.4'",
		"write the text format 0.0.4",
	}
)

// signatures are what bodies begin with that cannot be read in any format, whatever follows.
var signatures = []struct {
	begin string
	is    *mistake
}{
	{"\xFF\xFE", isUTF16},
	{"\xFE\xFF", isUTF16},
	{byteOrderMark, beginsWithBOM},
	{"\x1F\x8B", isGzip},
	{"\xFF\x06\x00\x00sNaPpY", isSnappy},
	{"\x28\xB5\x2F\xFD", isZstd},
	{"\x78\x01", isCompressed}, // zlib, three levels of it
	{"\x78\x9C", isCompressed},
	{"\x78\xDA", isCompressed},
	{"BZh91AY&SY", isCompressed},
	{"\xFD7zXZ\x00", isCompressed},
	{"PK\x03\x04", isCompressed},
	{"-----BEGIN ", isPEM},
}

const byteOrderMark = "\uFEFF"

// startBytes is how much of a body or a line is looked at for what it begins with.
const startBytes = 1024

// What says of an error by itself what it is about.
const (
	endOfInput  = "unexpected end of input stream"
	hashForTime = `expected integer as timestamp, got "#"`
)

// look returns what can be seen to be the reason of an error; nil if nothing can.
func look(f Format, err *ParseError, body []byte) *mistake {
	for _, s := range signatures {
		if bytes.HasPrefix(body, []byte(s.begin)) {
			return s.is
		}
	}
	start := body[:min(len(body), startBytes)]
	switch {
	case alternates(start):
		return isUTF16 // without its mark
	case f == ProtobufDelimited && strings.HasPrefix(http.DetectContentType(start), "text/"):
		return isText
	case f == ProtobufDelimited:
		return nil
	case bytes.HasPrefix(start, []byte("--")) && bytes.Contains(bytes.ToLower(start), []byte("content-disposition:")):
		return isForm
	case beginsWithFamily(body):
		return isProtobuf
	}
	switch text := bytes.TrimLeft(start, " \t\r\n"); {
	case bytes.HasPrefix(text, []byte("<")):
		return isMarkup
	case (bytes.HasPrefix(text, []byte("{")) || bytes.HasPrefix(text, []byte("["))) && json.Valid(body):
		return isJSON
	}
	return lookAtLine(err, body)
}

// alternates says whether every other byte of the first four is zero, as it is in UTF-16 of what is ASCII.
func alternates(start []byte) bool {
	if len(start) < 4 {
		return false
	}
	even, odd := start[0]|start[2], start[1]|start[3]
	return even == 0 && start[1] != 0 && start[3] != 0 || odd == 0 && start[0] != 0 && start[2] != 0
}

// beginsWithFamily says whether a body begins with a delimited MetricFamily: its length, and the field with its name.
func beginsWithFamily(body []byte) bool {
	size, n := consumeVarint(body)
	if n < 0 || size == 0 || size > uint64(len(body)-n) {
		return false
	}
	field, _, ok := nextField(body[n : n+int(size)])
	return ok && field.is(1, protowire.BytesType) && metric.ValidMetricName(metric.LegacyNames, field.bytes)
}

// typesOfOpenMetrics are those that the text format lacks.
var typesOfOpenMetrics = []string{"info", "stateset", "unknown"}

// lookAtLine returns what is often wrong with the line of an error, and with all others.
func lookAtLine(err *ParseError, body []byte) *mistake {
	line, isLast := lineOf(body, err.Line)
	fields := strings.Fields(string(line[:min(len(line), startBytes)]))
	switch {
	case isLast && err.Line == 1 && isURLEncodedText(line):
		return isURLEncoded
	case isLast && err.Line == 1:
		return hasNoLineFeed
	case isLast && err.Msg == endOfInput:
		return lacksLastLineFeed
	case bytes.HasPrefix(line, []byte(byteOrderMark)):
		return lineBeginsWithBOM
	case bytes.HasSuffix(line, []byte{'\r'}):
		return hasCRLF
	case err.Msg == hashForTime:
		return hasExemplar
	case len(fields) == 4 && fields[0] == "#" && fields[1] == "TYPE" && slices.Contains(typesOfOpenMetrics, fields[3]),
		bytes.HasSuffix(bytes.TrimRight(body, "\r\n"), []byte("\n# EOF")):
		return isOpenMetrics
	default:
		return nil
	}
}

// isURLEncodedText says whether the blanks or line feeds of a text are written as in URLs.
func isURLEncodedText(text []byte) bool {
	text = bytes.ToUpper(text[:min(len(text), startBytes)])
	return !bytes.ContainsAny(text, " \t") && (bytes.Contains(text, []byte("%0A")) || bytes.Contains(text, []byte("%20")))
}

// lineOf returns the line of that number, counted from 1, without its line feed, and whether it has none because the text ends.
func lineOf(text []byte, number int) (line []byte, isLast bool) {
	for range number - 1 {
		_, text, _ = bytes.Cut(text, []byte{'\n'})
	}
	line, _, ended := bytes.Cut(text, []byte{'\n'})
	return line, !ended
}
