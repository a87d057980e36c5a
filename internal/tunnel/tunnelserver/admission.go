package tunnelserver

import (
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	relayv1 "pushrelay/internal/gen/relay/v1"
	"pushrelay/internal/httpserver"
	"pushrelay/internal/sweepmap"
)

// What one identity may have and do. An agent has one connection; after an outage some that are dead are not known to be yet, and those of
// processes that take the session from each other stay open until their reason has arrived. Each begins with one attempt at
// a session, and waits longer from one to the next.
const (
	maxConnections = 8
	// maxRefused is how many more may be told that they are too many. Beyond that they are closed without a word.
	maxRefused  = 8
	attachEvery = time.Second
	attachBurst = 10
	// comeBack is how long whoever was too many, or came too often, shall wait before the next attempt.
	comeBack = 15 * time.Second
)

// admission counts what each identity has. It is safe for concurrent use.
type admission struct {
	mu         sync.Mutex
	identities *sweepmap.Map[string, *identity] // guarded by mu
}

// identity is guarded by admission.mu.
type identity struct {
	connections int
	attaches    *rate.Limiter
}

func newAdmission() *admission {
	return &admission{identities: sweepmap.New[string]((*identity).isGone)}
}

func newIdentity() *identity {
	return &identity{attaches: rate.NewLimiter(rate.Every(attachEvery), attachBurst)}
}

// isGone says that nothing is to be remembered of the identity. The caller holds admission.mu.
func (id *identity) isGone() bool { return id.connections == 0 && id.attaches.Tokens() >= attachBurst }

// connect counts a connection, and returns how many the agent has with it. The caller calls leave when it is closed.
func (a *admission) connect(agent string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.identities.Take(agent, newIdentity)
	id.connections++
	return id.connections
}

func (a *admission) leave(agent string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identities.Get(agent).connections--
}

// attach counts an attempt to open a session on a connection, and returns why it is refused, or nil.
func (a *admission) attach(conn *connection) *sessionEnd {
	if conn.number > maxConnections {
		return overloadedBy(fmt.Sprintf("agent %q has %d connections already: is the same certificate used by many?", conn.peer.Agent, maxConnections))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.identities.Get(conn.peer.Agent).attaches.Allow() {
		return overloadedBy(fmt.Sprintf("agent %q attaches too often: is the same certificate used by many?", conn.peer.Agent))
	}
	return nil
}

func overloadedBy(message string) *sessionEnd {
	return &sessionEnd{reason: relayv1.SessionEndReason_SESSION_END_REASON_OVERLOADED, message: message, retryAfter: comeBack}
}

// admittedConn is a connection after the handshake, which is counted until it is closed.
type admittedConn struct {
	net.Conn

	waste *httpserver.Waste
	left  func()
}

// Read reads, once the connection may be read.
func (c *admittedConn) Read(p []byte) (int, error) {
	c.waste.Rest()
	return c.Conn.Read(p)
}

// Close closes the connection.
func (c *admittedConn) Close() error {
	c.waste.Close()
	c.left()
	return c.Conn.Close()
}
