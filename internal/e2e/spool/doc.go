// Package spool tests that what is pushed at an agent arrives, exactly once, whatever happens to relays, agents, disks and clocks.
package spool
