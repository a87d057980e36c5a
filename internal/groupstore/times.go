package groupstore

import "pushrelay/internal/exposition"

// The help texts of the two families that every group has.
const (
	pushTimeHelp    = "Last Unix time when changing this group in the Pushgateway succeeded."
	failureTimeHelp = "Last Unix time when changing this group in the Pushgateway failed."
)

// appendSeconds appends a time in nanoseconds since the epoch as the value of a time family.
func appendSeconds(dst []byte, nanoseconds int64) []byte {
	return exposition.AppendFloat(dst, float64(nanoseconds)/1e9)
}
