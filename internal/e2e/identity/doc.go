// Package identity tests certificates of both ends: who is let in, and how they are renewed and replaced.
package identity
