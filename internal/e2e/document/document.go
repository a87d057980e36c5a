//go:build linux

package document

// Repository is its root, from here.
const Repository = "../../.."
