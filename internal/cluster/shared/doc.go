// Package shared has what relays that are one service know alike, beside the store: the ledger of who may come in, and what the leader's files of push rules
// and policy say (C14).
//
// It promises that what is noted in the ledger is in the etcd of a majority when that returns, counts here at once, and was decided on all that others had
// noted before; that a relay which hears etcd has what others note as soon as etcd tells; and that settings are those of one leader, whole. Without a
// majority nothing is noted and nothing set, in words that say so, and what is known goes on to count.
//
// It decides nothing about agents: that is for package ledger, whose records it keeps. Start reading at [Journal.Append], then [Settings.Set].
package shared
