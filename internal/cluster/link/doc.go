// Package link is how the relays of a cluster speak to one another: the one that took a push hands it to the one that decides (C11), a scrape goes to the
// relay that the agent has a session with (C13), and all tell one another that they live.
//
// It promises that what is handed on takes effect once and in the order in which it was sent, however often a connection breaks and whoever decides
// next; that a change of which nobody heard how it ended is told as in doubt, and one that certainly was not taken as that; and that a scrape goes
// over one hop and no body is held whole. It knows neither the engine nor who is a member: it asks.
//
// Changes wait in a [queue] in the order in which they came, and go out on a lane, which is the present way to who decides: a stream to another
// relay (lane.go), or straight to the own desk where this relay decides by now. There a [desk] decides what comes over one lane. Start reading at
// [New], then at [Forwarder.Apply] and queue.go.
package link
