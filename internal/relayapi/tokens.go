package relayapi

import "time"

// ControlTokens is the route of join tokens at the control socket. Below it is one for each.
const ControlTokens = "/tokens"

// NewToken says what token is to be made.
type NewToken struct {
	// Name is the agent's; with Prefix, what the names of agents begin with.
	Name   string `json:"name"`
	Prefix bool   `json:"prefix,omitempty"`
	// Replace lets a token with Prefix also take over names that have a certificate.
	Replace bool `json:"replace,omitempty"`
	// Uses is how many agents it lets in, TTLSeconds how long it is good.
	Uses       int   `json:"uses"`
	TTLSeconds int64 `json:"ttl_seconds"`
	// Addresses are those at which agents dial the relays; none for what the relay takes for its own.
	Addresses []string `json:"addresses,omitempty"`
}

// Token is what is told of a join token. It has no secret.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Prefix  bool      `json:"prefix"`
	Replace bool      `json:"replace"`
	Uses    int       `json:"uses"`
	Used    int       `json:"used"`
	MadeAt  time.Time `json:"made_at"`
	EndsAt  time.Time `json:"ends_at"`
}

// MadeToken is a new token.
type MadeToken struct {
	Token

	// Text is the token itself, a secret: nobody can have it again.
	Text string `json:"text"`
	// Addresses are those in it, and Notes what there is to know of them, one line each.
	Addresses []string `json:"addresses"`
	Notes     []string `json:"notes"`
}
