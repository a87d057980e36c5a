package mtls

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// encoding/pem skips whatever is no block, so that a file which somebody joined or saved badly loses certificates without a
// word. Here every line that looks like the begin or end of a block has to become one, or is told.

// pemBlock is a block, and the line at which it begins.
type pemBlock struct {
	*pem.Block

	line int
}

// pemFault is something that should have been a block, or a certificate.
type pemFault struct {
	line int
	text string
}

// String names the line.
func (f pemFault) String() string { return fmt.Sprintf("line %d: %s", f.line, f.text) }

// marker is a line of its own that begins or ends a block.
type marker struct {
	line       int
	begins     bool
	blockType  string // as much of it as may be told
	start, end int    // of the line in the text
}

var (
	byteOrderMark = []byte("\uFEFF")
	// markerRE finds what is meant as a marker: with too few dashes too, or with those of a word processor. Its group is all
	// of the line that may be told: around it can be a key.
	markerRE = regexp.MustCompile(`[-\x{2010}-\x{2015}]{4,} ?((?:BEGIN|END) [A-Z0-9][A-Z0-9 ]{0,60})`)
	// wholeMarkerRE is a marker that encoding/pem takes, continuedRE one with something directly after it.
	wholeMarkerRE = regexp.MustCompile(`^-----(BEGIN|END) [^-]+-----$`)
	continuedRE   = regexp.MustCompile(`^-----(?:BEGIN|END) [^-]+-----[^ \t]`)
)

// pemBlocks returns the blocks of a text, and what should have been one. A byte order mark, which editors leave at the begin
// of a file, counts as nothing. Markers that are glued together, or to other text, are an error: a line feed got lost when
// files were joined, and nobody can have meant that.
func pemBlocks(text []byte) (blocks []pemBlock, faults []pemFault, err error) {
	if bytes.HasPrefix(text, []byte{0xFF, 0xFE}) || bytes.HasPrefix(text, []byte{0xFE, 0xFF}) {
		return nil, nil, errors.New("it is UTF-16: save it as plain text, in ASCII or UTF-8")
	}
	text = bytes.ReplaceAll(text, byteOrderMark, nil)
	markers, faults, err := findMarkers(text)
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i < len(markers); i++ {
		m := markers[i]
		switch {
		case !m.begins:
			faults = append(faults, pemFault{m.line, fmt.Sprintf("END %s without a BEGIN at the start of a line", m.blockType)})
		case i+1 == len(markers) || markers[i+1].begins:
			faults = append(faults, pemFault{m.line, fmt.Sprintf("BEGIN %s without an END", m.blockType)})
		default:
			i++
			ends := markers[i]
			if block, _ := pem.Decode(text[m.start:ends.end]); block != nil {
				blocks = append(blocks, pemBlock{block, m.line})
				continue
			}
			faults = append(faults, pemFault{m.line, fmt.Sprintf("what is between BEGIN %s and END %s (line %d) is no PEM block", m.blockType, ends.blockType, ends.line)})
		}
	}
	slices.SortStableFunc(faults, func(a, b pemFault) int { return a.line - b.line })
	return blocks, faults, nil
}

// findMarkers returns the lines that begin and end blocks, and those that only seem to.
func findMarkers(text []byte) (markers []marker, faults []pemFault, err error) {
	start := 0
	for number := 1; start < len(text); number++ {
		end := len(text)
		if i := bytes.IndexByte(text[start:], '\n'); i >= 0 {
			end = start + i + 1
		}
		line := strings.TrimRight(string(text[start:end]), " \t\r\n")
		found := markerRE.FindAllStringSubmatchIndex(line, -1)
		switch whole := wholeMarkerRE.FindStringSubmatch(line); {
		case len(found) == 0, strings.HasPrefix(strings.TrimLeft(line, " \t"), "#"): // whoever writes a comment knows it
		case whole != nil:
			_, told, _ := strings.Cut(line[found[0][2]:found[0][3]], " ")
			markers = append(markers, marker{number, whole[1] == "BEGIN", told, start, end})
		case len(found) > 1, continuedRE.MatchString(line), found[0][0] > 0 && !strings.ContainsRune(" \t", rune(line[found[0][0]-1])):
			last := found[len(found)-1]
			return nil, nil, fmt.Errorf("line %d: a line feed is missing before or after %q: were files joined that do not end in one?", number, line[last[2]:last[3]])
		default:
			faults = append(faults, pemFault{number, fmt.Sprintf("%q has to be a line of its own, without spaces before it and with five dashes on either side", line[found[0][2]:found[0][3]])})
		}
		start = end
	}
	return markers, faults, nil
}
