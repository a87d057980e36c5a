// Package e2e runs the programs as users run them: the real binaries, the real Prometheus, the clients that people push
// with, network namespaces with a firewall between them. What needs none of that is in internal/relaytest, where relays and
// agents run within the process of the test.
//
// The tests are in a folder for each topic: alerts, command, conformance, docs, durability, identity, page, scrape, spool, tunnel.
// What they share is in packages beside them, of which program and house are where to start reading.
//
// They know the programs by their flags, routes, files and exit codes and by nothing else, so they must
// not import any package of the product. They need Linux, and programs that scripts/install-test-deps.sh installs; a test
// whose program is missing is skipped with the reason, and fails where CI=true.
//
// The packages run side by side. A test takes its ports from program.FreeAddress, and names what is the machine's, as namespaces, after its process.
package e2e
