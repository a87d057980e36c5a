// Package cluster tests several relays that are one service, whatever happens to some of them.
package cluster
