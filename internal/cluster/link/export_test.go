package link

// Waiting returns how many changes wait to be decided elsewhere.
func (f *Forwarder) Waiting() int {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	return f.queue.count
}

// Out returns how many of them went out and have no answer.
func (f *Forwarder) Out() int { return f.count(func(e *entry) bool { return e.isOut && e.sent }) }

// Resent returns how many of them went out again on another way, and have no answer.
func (f *Forwarder) Resent() int {
	return f.count(func(e *entry) bool { return e.isOut && e.resent })
}

func (f *Forwarder) count(of func(*entry) bool) (n int) {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	for _, e := range f.queue.numbered {
		if of(e) {
			n++
		}
	}
	return n
}
