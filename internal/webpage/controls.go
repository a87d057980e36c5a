package webpage

import (
	"bytes"
	"fmt"
)

// showControls makes of a page one in which no text changes the direction of what is written beside it: the signs that do so are shown by their
// numbers. Elements around texts would not do: such a sign can end an element's isolation. Attributes stay as they are, since they come back as
// searches.
func showControls(page []byte) []byte {
	if !hasControl(page) {
		return page
	}
	shown := make([]byte, 0, len(page)+100)
	inTag := false
	for i := 0; i < len(page); i++ {
		switch {
		case page[i] == '<' || page[i] == '>': // those of texts and of attributes are escaped
			inTag = page[i] == '<'
		case !inTag && isControl(page[i:]):
			shown = fmt.Appendf(shown, "[%U]", []rune(string(page[i : i+3]))[0])
			i += 2
			continue
		}
		shown = append(shown, page[i])
	}
	return shown
}

func hasControl(page []byte) bool {
	for {
		i := bytes.IndexByte(page, 0xe2)
		if i < 0 {
			return false
		}
		if isControl(page[i:]) {
			return true
		}
		page = page[i+1:]
	}
}

// isControl says whether a text begins with one of U+202A to U+202E, which embed and override, or U+2066 to U+2069, which isolate.
func isControl(text []byte) bool {
	if len(text) < 3 || text[0] != 0xe2 {
		return false
	}
	return text[1] == 0x80 && text[2] >= 0xaa && text[2] <= 0xae || text[1] == 0x81 && text[2] >= 0xa6 && text[2] <= 0xa9
}
