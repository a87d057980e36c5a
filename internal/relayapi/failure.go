package relayapi

// FailureKind says what is wrong with what was asked.
type FailureKind string

// The kinds.
const (
	// BadRequest is what can never be done, NotFound what is about something that is not there.
	BadRequest FailureKind = "bad_data"
	NotFound   FailureKind = "not_found"
	// Conflict is what cannot be done as things are, Unavailable what can be later, without anybody doing anything.
	Conflict    FailureKind = "conflict"
	Unavailable FailureKind = "unavailable"
)

// A Failure is an error that says how it is answered.
type Failure struct {
	Kind FailureKind
	Err  error
}

// Error returns that of the error.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the error.
func (f *Failure) Unwrap() error { return f.Err }
