// Package tunnel tests the way between agent and relay: networks that break, stall and come back, proxies, restarts, targets that misbehave.
package tunnel
