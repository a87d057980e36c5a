// Package promserver runs Debian's Prometheus, and asks it what it has scraped.
package promserver
