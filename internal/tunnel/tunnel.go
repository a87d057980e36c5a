// Package tunnel holds the words that both ends of the tunnel share: how changes, outcomes and scrapes travel, which failure
// of a scrape is which code, and the limits and times with their reasons.
//
// The relay's end is package tunnelserver, the agent's end package tunnelclient; neither knows a store or a spool. The
// protocol itself is documented in proto/relay/v1/relay.proto.
package tunnel

import (
	"slices"
	"time"

	relayv1 "pushrelay/internal/gen/relay/v1"
)

// ProtocolVersion is the version of the protocol that this release speaks.
const ProtocolVersion = 1

// Liveness (T4). Pings keep NAT tables and cheap middleboxes awake and find a dead peer below; heartbeats do the same
// across proxies that end HTTP/2, and measure.
const (
	// HeartbeatInterval is how often the relay asks for an echo, and HeartbeatJitter what is added at random, so that
	// agents that attached together do not beat together. Heartbeat and echo are a message in either direction;
	// middleboxes cut streams that idle for 60 s and more.
	HeartbeatInterval = 17 * time.Second
	HeartbeatJitter   = 3 * time.Second
	// HeartbeatTick is how far apart the moments are at which a relay sends heartbeats. It sleeps between them: to wake up costs it
	// more than a heartbeat does, and ten thousand idle agents would wake it up a thousand times a second.
	HeartbeatTick = 100 * time.Millisecond
	// SilenceLimit is how long a connection may bring no byte, or a session no heartbeat, before it is closed.
	SilenceLimit = 45 * time.Second
	// PingInterval and PingTimeout are those of HTTP/2. Their sum stays below SilenceLimit. grpc-go also makes PingTimeout
	// the TCP user timeout: bytes that nobody acknowledges end the connection.
	PingInterval = 20 * time.Second
	PingTimeout  = 15 * time.Second
	// MinPingInterval is what the relay puts up with. grpc-go asks for 5 minutes if it is not told, and closes sessions.
	MinPingInterval = 5 * time.Second
	// HandshakeTimeout bounds what the relay waits for an agent: TLS and the HTTP/2 preface, and then the hello, so that a
	// silent peer holds a socket and not for long.
	HandshakeTimeout = 10 * time.Second
)

// Sizes of what travels.
const (
	// ChunkBytes is the size of a piece of a push: small enough to be fair to other streams, large enough to cost little.
	// With all that goes around it, it fits into one of gRPC's buffers of 32 KiB: for anything larger gRPC takes a buffer of
	// 1 MiB, and clears all of it before each use.
	ChunkBytes = 32<<10 - 64
	// BodyChunkBytes is the size of a [Chunk], which has buffers of its own. What one hop hands to the next is paid for by the
	// wake-up, hardly by the byte; twice as much gains nothing more, and half as much loses a tenth. With all that goes around
	// it, it fits into 16 frames of HTTP/2, and into the four segments of at most 64 KiB that a kernel takes at once where it
	// may hold back [UnsentBytes]: of a larger burst the rest would be a write and a segment of its own.
	BodyChunkBytes = 254 << 10
	// BurstBytes is what goes over the connection at once: a chunk with all that goes around it.
	BurstBytes = BodyChunkBytes + 16<<10
	// MaxMessageBytes bounds any message on either side. Bodies travel in chunks, so nothing needs more.
	MaxMessageBytes = 1 << 20
	// MaxHeadBytes bounds the head of a target's answer, which travels in one message: beyond MaxMessageBytes gRPC would break
	// the call off, and the relay could not tell that from an agent that went away.
	MaxHeadBytes = MaxMessageBytes / 2
	// MaxHeaderBytes bounds the HTTP/2 headers of one call.
	MaxHeaderBytes = 16 << 10
	// TargetsPerMessage bounds the targets in a part of a target set.
	TargetsPerMessage = 200
	// MaxUnacknowledgedBytes and MaxUnacknowledgedChanges bound what awaits a verdict (T5): enough to keep a link busy,
	// little enough that a scrape on a narrow one does not wait behind it.
	MaxUnacknowledgedBytes   = 256 << 10
	MaxUnacknowledgedChanges = 64
)

// SpoolStateInterval is the least time between two reports of an agent on what waits in its spool.
const SpoolStateInterval = time.Second

// UnsentBytes is what the agent's kernel may hold back of what it was given to send, where the system has such a bound (T5).
// Streams take turns only before that.
const UnsentBytes = 128 << 10

// Receive windows of the relay. Both are set, since setting one alone leaves the other at 64 KiB and switches off
// grpc-go's own adjustment. The stream window holds a scrape of 1 MiB, so that it takes one round trip however long that
// is; times the concurrent scrapes it bounds what a slow scraper can pin.
const (
	StreamWindowBytes     = 2 << 20
	ConnectionWindowBytes = 16 << 20
)

// MaxStreams bounds the concurrent calls of one agent: Attach, Push and a scrape each.
const MaxStreams = 256

// A relay keeps calls of DeliverScrape for further answers of the same agent: it saves both ends a tenth of the work of a small scrape.
const (
	// MaxKeptDeliveries bounds those that are kept. More scrapes at once are answered by calls that end with them.
	MaxKeptDeliveries = 8
	// DeliveryIdle is how long at least a call is kept without use, and half of the longest: of an agent that is scraped now and
	// then nothing is kept, since what it saves is less than the memory that ten thousand such calls would take.
	DeliveryIdle = 5 * time.Second
)

// ReadBufferBytes is grpc-go's read buffer per connection: none. TLS below it holds whole records already, and of ten
// thousand idle connections each would keep its buffer.
const ReadBufferBytes = 0

// AgentWindowBytes is the receive window of the agent, of a stream and of the connection. Nothing large comes down; that
// it is set at all keeps grpc-go from measuring the bandwidth with a ping for every message, which the relay would have to
// answer.
const AgentWindowBytes = 64 << 10

// Backoff of an agent whose session ended (T6): full jitter up to a limit that doubles from the base to the cap, and
// falls back to the base only after a session that lasted.
//
// An agent is back within 15 s of the network's return: an attempt may hang then, and the next one begins at most BackoffCap
// after the last byte that it brought. What is left of the 15 s is for that one to succeed.
const (
	// AttemptSilence is how long an attempt to open a session may bring no byte, from its begin on. A relay that ten thousand
	// agents come back to at once lets each wait for its turn, but not for longer.
	AttemptSilence = 10 * time.Second
	// AttemptTimeout bounds an attempt that brings bytes and no welcome.
	AttemptTimeout = 30 * time.Second
	BackoffBase    = time.Second
	// BackoffCap is the longest time from the last byte of an attempt that fails, or from its begin, to the next one.
	BackoffCap    = 13 * time.Second
	StableSession = time.Minute
	// SupersededWait and up to SupersededSpread more is what an agent waits whose session was taken. With both a conflict shows
	// within two minutes (T3).
	SupersededWait   = time.Minute
	SupersededSpread = 40 * time.Second
)

// Has reports whether a capability was announced.
func Has(capabilities []relayv1.Capability, c relayv1.Capability) bool {
	return slices.Contains(capabilities, c)
}
