package series

// The two families that every group has. They are made from two numbers per group when they are asked for, and a pushed
// family of one of these names is ignored.
const (
	PushTimeFamily    = "push_time_seconds"
	FailureTimeFamily = "push_failure_time_seconds"
)

// reservedPrefix begins the names of the relay's own metrics, which nobody may push (S17).
const reservedPrefix = "relay_"

// isTimeFamily says whether a family of that name is the store's own to make.
func isTimeFamily(name []byte) bool {
	return string(name) == PushTimeFamily || string(name) == FailureTimeFamily
}
