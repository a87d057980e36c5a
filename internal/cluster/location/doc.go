// Package location knows, on every relay of a cluster, where each agent's sessions are, and has all relays know all agents (C10, C12).
//
// A session that begins is registered in etcd, on the lease of the relay's process; its epoch is the revision of the transaction that did it. The key of the agent's
// process, which is written only when another process than before has a session, has as its revision the first epoch that is current: what a session of an earlier
// one carried is refused by one comparison (T3). A process may have a session on each relay, all current.
//
// Each relay has a copy of all of it, by a watch: it ends the sessions that another process has displaced elsewhere, and gives the registry what other relays
// know. Without a majority of etcd sessions go on and begin; they are registered once there is one.
//
// The package knows no tunnel and no store. Start reading at [Location].
package location
