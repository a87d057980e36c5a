//go:build unix && !darwin

package jobexec

// maxrssUnit is the unit in which the system tells the largest resident size.
const maxrssUnit = 1 << 10
