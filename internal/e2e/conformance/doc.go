// Package conformance tests the relay beside the Pushgateway itself, and with the clients that people push with.
package conformance
