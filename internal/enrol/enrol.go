// Package enrol is what relay and agent share of how an agent comes in: the text of a join token, the protocol on the wire, and why a
// certificate is refused (I1 to I5).
//
// It promises that a text which was cut or mistyped is told from one that another relay made, before anything is sent. The relay's end
// is in enrolserver, the agent's in enrolclient. Start reading at [Token].
package enrol

import (
	"time"

	"pushrelay/internal/mtls"
)

// Protocol is the TLS application protocol (ALPN) of enrolment. Who offers it and nothing else meets the enrolment of a relay; everybody else
// meets mutual TLS.
const Protocol = "relay-enroll/1"

// Bounds of a connection.
const (
	// MaxMessageBytes bounds a message either way.
	MaxMessageBytes = 64 << 10
	// MaxRequestBytes bounds a certificate request.
	MaxRequestBytes = 8 << 10
	// AttemptTimeout bounds an attempt, from the first byte to the last.
	AttemptTimeout = 15 * time.Second
	// MaxAuthorities bounds the CAs that come with a certificate.
	MaxAuthorities = 16
	// MaxChain bounds the certificates of its chain.
	MaxChain = 8
)

// RevokedWait, and up to RevokedSpread more, is how long an agent waits that a relay refuses for good, before it asks or attaches again: only a person can
// change that (I8).
const (
	RevokedWait   = 5 * time.Minute
	RevokedSpread = 5 * time.Minute
)

// RenewFrom returns when half of the life of a certificate is over, counted from when it was issued: from then on it is renewed (I4). What lives
// no longer than it is backdated counts from its beginning.
func RenewFrom(notBefore, notAfter time.Time) time.Time {
	issued := notBefore.Add(mtls.Backdate)
	if !issued.Before(notAfter) {
		issued = notBefore
	}
	return issued.Add(notAfter.Sub(issued) / 2)
}
