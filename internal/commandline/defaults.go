package commandline

import (
	"strconv"
	"strings"
	"time"
)

// Duration writes the default of a flag as people do: 5m, not 5m0s, and 7d, not 168h. One day is 24h.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Bytes writes the default of a flag that counts bytes with the largest unit that leaves no fraction: 16MiB.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	unit := 0
	for n != 0 && n%1024 == 0 && unit+1 < len(units) {
		n, unit = n/1024, unit+1
	}
	return strconv.FormatInt(n, 10) + units[unit]
}
