package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes the content of a file durable, as the relay does.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
