// Package program builds the programs under test and runs them, and others, as processes: starts and stops them, reads what they print, gives them ports
// that no other test has. It knows of relays and agents only where they are built.
package program
