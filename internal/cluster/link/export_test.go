package link

// Waiting returns how many changes wait to be decided elsewhere.
func (f *Forwarder) Waiting() int {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	return f.queue.count
}

// Out returns how many of them went out and have no answer.
func (f *Forwarder) Out() (n int) {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	for _, e := range f.queue.numbered {
		if e.isOut && e.sent {
			n++
		}
	}
	return n
}

// Resent returns how many of them went out again on another way, and have no answer.
func (f *Forwarder) Resent() (n int) {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	for _, e := range f.queue.numbered {
		if e.isOut && e.resent {
			n++
		}
	}
	return n
}
