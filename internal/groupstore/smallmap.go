package groupstore

// A smallMap finds values by their keys. It takes a map only for those beside the first, since most often there is one. The zero
// smallMap is empty.
type smallMap[V keyed] struct {
	one  V            // zero only if there is none at all
	more map[string]V // all others
}

// keyed is what a smallMap can hold: values that say by which key they are found, and never change it.
type keyed interface {
	comparable
	key() string
}

// lookUp returns the value of that key, or zero.
func lookUp[V keyed, K string | []byte](f *smallMap[V], key K) V {
	var none V
	if f.one != none && f.one.key() == string(key) {
		return f.one
	}
	return f.more[string(key)]
}

func (f *smallMap[V]) empty() bool {
	var none V
	return f.one == none
}

// add takes a value whose key is not there.
func (f *smallMap[V]) add(v V) {
	if f.empty() {
		f.one = v
		return
	}
	if f.more == nil {
		f.more = make(map[string]V)
	}
	f.more[v.key()] = v
}

// replace takes a value whose key is not there in the place of one that is.
func (f *smallMap[V]) replace(old, v V) {
	if f.one == old {
		f.one = v
		return
	}
	delete(f.more, old.key())
	f.more[v.key()] = v
}

// remove drops a value that is there.
func (f *smallMap[V]) remove(v V) {
	if f.one == v {
		var none V
		f.one = none
		for _, other := range f.more { // any of them takes its place
			f.one, v = other, other
			break
		}
	}
	if delete(f.more, v.key()); len(f.more) == 0 {
		f.more = nil // a map never gives its memory back
	}
}
