// Package certificate has an authority of the tests' own, which signs also what no relay would sign.
package certificate
