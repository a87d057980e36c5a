package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"pushrelay/internal/mtls"
	"pushrelay/internal/spool"
	"pushrelay/internal/targets"
)

func (o *Options) validate() error {
	if err := o.validateTLS(); err != nil {
		return err
	}
	if len(o.RelayAddresses) > spool.MaxRelays {
		return fmt.Errorf("--relay.address is given %d times, and %d are allowed", len(o.RelayAddresses), spool.MaxRelays)
	}
	if err := checkName("--enroll.name", o.EnrollName); err != nil {
		return err
	}
	if o.RelayProxyURL != "" { // whichever relay is dialled
		if _, err := o.proxyFor(""); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, address := range o.RelayAddresses {
		if err := checkRelayAddress(address); err != nil {
			return err
		}
		if _, err := o.proxyFor(address); err != nil {
			return err
		}
		if seen[address] {
			return fmt.Errorf("--relay.address %s is given twice", address)
		}
		seen[address] = true
	}
	for _, host := range o.AllowedHosts {
		if strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Trim(host, ".") == "" {
			return fmt.Errorf("--web.allowed-host %q is not the name of a host, want it without scheme and port, such as agent.example.org", host)
		}
	}
	if o.PushWait <= 0 {
		return fmt.Errorf("--push.wait is %s, want more than nothing", o.PushWait)
	}
	return nil
}

// validateTLS wants the three files together, and then relays to dial.
func (o *Options) validateTLS() error {
	if o.TLS == (mtls.Files{}) {
		return nil
	}
	for _, file := range []struct{ flag, name string }{
		{"--tls.ca-file", o.TLS.CAFile}, {"--tls.cert-file", o.TLS.CertFile}, {"--tls.key-file", o.TLS.KeyFile},
	} {
		if file.name == "" {
			return fmt.Errorf("%s is missing: `relay-server agent-certificate NAME --out DIR` on the relay makes the files", file.flag)
		}
	}
	if len(o.RelayAddresses) == 0 {
		return errors.New("--relay.address is missing: give the relay's host:port, as its --grpc.listen-address and certificate have it")
	}
	return nil
}

// proxyFor returns the proxy to the relay, as the flag or else the environment says; nil for none.
func (o *Options) proxyFor(address string) (*url.URL, error) {
	if o.RelayProxyURL != "" {
		proxy, err := targets.ParseProxyURL(o.RelayProxyURL, "http")
		if err != nil {
			return nil, fmt.Errorf("--relay.proxy-url: %w", err)
		}
		return proxy, nil
	}
	environment := httpproxy.FromEnvironment()
	text := environment.HTTPSProxy
	if text == "" {
		return nil, nil
	}
	// Whether NO_PROXY names the relay is for that package to say. It takes a proxy that it cannot read for none.
	environment.HTTPSProxy = "http://proxy.invalid"
	if through, err := environment.ProxyFunc()(&url.URL{Scheme: "https", Host: address}); through == nil || err != nil {
		return nil, err
	}
	proxy, err := targets.ParseProxyURL(text, "http")
	if err != nil {
		return nil, fmt.Errorf("proxy of the environment (HTTPS_PROXY): %w", err)
	}
	return proxy, nil
}

// checkRelayAddress returns an error unless the address can be dialled.
func checkRelayAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.ContainsAny(host, "/?#@\\ \t\r\n") {
		return fmt.Errorf("--relay.address %q is not host:port", address)
	}
	if n, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port); err != nil || n == 0 { // a number, or a name that the system knows
		return fmt.Errorf("--relay.address %q has a port that cannot be, want 1 to 65535", address)
	}
	return nil
}
