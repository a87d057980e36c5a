// Package membership is who belongs to a cluster of relays: what a data dir knows of being a member, the certificates by which members know one
// another, how a relay becomes one and ceases to be one, and which members there are and run (C16 to C18, C21).
//
// It promises that a data dir is a member whole or not at all; that one which was wiped, copied or put back never starts as the member that it was; that
// a token lets in one member, once; and that the authority of members signs nothing but members, and its key goes to no witness. It does not know what the
// cluster keeps. Start reading at [Open], then [Join] and [Door], then [Members].
package membership
