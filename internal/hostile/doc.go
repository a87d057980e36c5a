// Package hostile attacks a real relay: a malicious agent with a valid certificate, which speaks the protocol by hand, and plain clients.
// Each attack has bounds on what it costs the relay in memory, goroutines, descriptors and lines of the log, and on how much longer an
// honest agent and an honest client wait beside it, in the same run. It holds tests alone, for Linux; docs/security.md says which is about what.
package hostile
