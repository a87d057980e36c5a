// Package document reads what this repository says of itself.
package document
