// Package command tests the programs as commands: flags, exit codes, what they refuse and say, signals, memory, ports.
package command
