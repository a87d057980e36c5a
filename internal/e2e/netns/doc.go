// Package netns lays networks with a router and firewalls between namespaces of the kernel, each under a name that no other process of tests has.
package netns
