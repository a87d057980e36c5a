// Package exporter has targets that the tests have in hand: that stop midway, answer wrongly, or run as a process of their own.
package exporter
