package loglimit

// Peers returns how many peers are remembered.
func Peers(l *Limiter) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peers.Len()
}
