// Package e2e runs the programs as users run them: the real binaries, the real Prometheus, the clients that people push
// with, network namespaces with a firewall between them.
//
// It has tests only. They know the programs by their flags, routes, files and exit codes and by nothing else, so they must
// not import any package of the product. They need Linux, and programs that scripts/install-test-deps.sh installs; a test
// whose program is missing is skipped with the reason, and fails where CI=true.
package e2e
