//go:build unix

package main

import "syscall"

// ownGroup keeps what a terminal sends for keys away from a program.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
