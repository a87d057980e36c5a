// Package page tests the pages in browsers.
package page
