// Package gateway has what takes pushes as a Pushgateway does, a relay or the reference itself, and asks them the same.
package gateway
