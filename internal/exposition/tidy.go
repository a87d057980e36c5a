package exposition

import "bytes"

// Tidy takes off a text what editors, shells and other systems leave in files and does not change what is said: a byte order mark
// at its very beginning, and carriage returns at the ends of lines. A last line without a line feed gets one. It works in place, and what is
// returned may be another slice of the same memory.
//
// It is for texts that a program of this project reads itself, before it pushes them; what comes by HTTP is taken as it is, as a Pushgateway does.
func Tidy(text []byte) []byte {
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	if len(text) == 0 {
		return text
	}
	if bytes.IndexByte(text, '\r') >= 0 {
		text = dropCarriageReturns(text)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return text
}

// dropCarriageReturns drops those directly before a line feed or the end, also several: programs that write CR LF to a stream that makes
// CR LF of LF leave two.
func dropCarriageReturns(text []byte) []byte {
	kept := text[:0]
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte{'\n'})
		kept = append(kept, bytes.TrimRight(line, "\r")...)
		if ended {
			kept = append(kept, '\n')
		}
		text = rest
	}
	return kept
}
