// Package deploytest holds tests of what is in deploy/ for others to read: charts by Helm, manifests as Kubernetes and the Prometheus operator decode them, and
// examples of Compose and cloud-init. It has nothing else in it.
//
// It is a module of its own: Helm brings 150 modules that the programs do not need.
package deploytest
