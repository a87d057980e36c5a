// Package client asks programs over HTTP, as scrapers and pushers do, and waits until they answer as they should.
package client
