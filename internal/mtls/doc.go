// Package mtls says who is on the other end of a connection between an agent and a relay: identities in certificates,
// the TLS configuration of both ends, and certificate files that are read again when they change.
//
// It promises that a handshake which succeeds has an identified, verified peer on the other end: TLS 1.3 only, both ends
// with a certificate, and an agent known by exactly one URI SAN of its verified certificate, never by a field or a header
// (T1). What does not meet this fails in the handshake, with words that a person can act on.
//
// It must not know gRPC, sessions or who issues certificates. Start reading at [PeerID], then [Load], [Reloader],
// [RelayTLSConfig] and [AgentTLSConfig].
package mtls
