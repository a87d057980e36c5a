package exposition

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Describe returns what is wrong with a file that was parsed with that error, without anything that is in it: the line, the kind of
// mistake, and what the file seems to be. A file that is no exposition may hold what is nobody else's to know, and be there only because
// somebody linked it.
//
// A file that is well formed is an exposition, and so an [*InconsistentError] is told as it is.
func Describe(err error, content []byte) string {
	if _, wellFormed := errors.AsType[*InconsistentError](err); wellFormed {
		return err.Error()
	}
	parse, ok := errors.AsType[*ParseError](err)
	if !ok {
		return conceal(err.Error())
	}
	said := fmt.Sprintf("line %d is not in the text format: %s", parse.Line, conceal(parse.Msg))
	if parse.Line == 0 {
		said = conceal(parse.Msg)
	}
	found := look(Text004, parse, content)
	if kind := http.DetectContentType(content); found == nil && !strings.HasPrefix(kind, "text/") {
		return said + "; the file is no text, but " + kind
	}
	return said + ofFile(found)
}

// ownWords are the beginnings of messages that quote what is not from a body.
var ownWords = []string{`expected '='`, `expected '"'`, `expected float as value for 'le'`, `expected float as value for 'quantile'`, `label name "__name__" is reserved`}

// conceal replaces all that the message of an error quotes of a body. Messages hold what is from it in quotes only, as %q writes it; where
// a quotation cannot be told from what is around it, the rest goes with it.
func conceal(msg string) string {
	var b strings.Builder
	for _, own := range ownWords {
		if rest, ok := strings.CutPrefix(msg, own); ok {
			b.WriteString(own)
			msg = rest
			break
		}
	}
	for {
		i := strings.IndexAny(msg, `"'`)
		if i < 0 {
			return b.String() + msg
		}
		b.WriteString(msg[:i] + "…")
		quoted, err := strconv.QuotedPrefix(msg[i:])
		if err != nil {
			return b.String()
		}
		msg = msg[i+len(quoted):]
	}
}
