// Package engine is what relays that are one service agree by: an etcd, which runs within the relay (C1).
//
// It has no meaning for anything that is kept in it: that is for whoever has its client. Start reading at [Start].
package engine
