// Package upkeep keeps the etcd of relays that are one service from growing (C19): what every member has passed is compacted, one member at a time gives
// free space back to the disk, and one that has run full is mended.
//
// It promises that it never compacts what a member still needs that was heard a while ago, and that no member is defragmented while it leads. Start reading
// at [Upkeep.Run].
package upkeep
