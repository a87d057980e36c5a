package recent

// NewOf returns one with another bound.
func NewOf(maxBytes int) *Recent {
	r := New()
	r.maxBytes = maxBytes
	return r
}

// MaxBytes is the bound of New.
const MaxBytes = maxBytes

// Bytes returns what it takes by its own account.
func (r *Recent) Bytes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}
