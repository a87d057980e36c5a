// Package scrape tests how Prometheus and other scrapers get what agents offer.
package scrape
