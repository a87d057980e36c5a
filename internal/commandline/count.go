package commandline

import "strconv"

// Count returns a number of things as people write it: 1 group, 2 groups. The plural of the word has an s behind it.
func Count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
