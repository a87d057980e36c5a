// Package archtest executes the import table of docs/architecture.md.
//
// It has tests only. They promise that every package of the module has a place in the table, that imports go down the
// layers and stay within a column, and that a few doors stay shut; each of them has its reason beside it. Code of the
// product must not know this package.
package archtest
