package fileowner

import "golang.org/x/sys/unix"

// searchFlags open a directory to go on from it, which needs no right to list it.
const searchFlags = unix.O_PATH
