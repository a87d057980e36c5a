package targets

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// schemeEnd is what stands between a URL's scheme and the rest.
const schemeEnd = "://"

// targetProxySchemes are the schemes of proxies that net/http knows.
var targetProxySchemes = []string{"http", "https", "socks5", "socks5h"}

// ParseProxyURL reads the URL of a proxy, [scheme://][user:password@]host[:port]. Without a scheme it is http, as in HTTPS_PROXY.
// Errors hold nothing of it: where it is wrong, any part can be one of the password, and net/url would take that for a host.
func ParseProxyURL(text string, schemes ...string) (*url.URL, error) {
	scheme, rest := "http", text
	if before, after, ok := strings.Cut(text, schemeEnd); ok {
		scheme, rest = strings.ToLower(before), after
	}
	want := strings.Join(schemes, ", ") + schemeEnd + "[user:password@]host:port"
	if !slices.Contains(schemes, scheme) {
		return nil, fmt.Errorf("it has another scheme, or none that ends in %s; want %s", schemeEnd, want)
	}
	rest = strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(rest, "#?/\\ \t\r\n") {
		return nil, fmt.Errorf("percent-encode what is special in user and password (%%23 for #, %%3F for ?, %%2F for /): as they are, the host ends there. A proxy has no path; want %s", want)
	}
	if strings.HasPrefix(rest, ":") && !strings.Contains(rest, "@") {
		return nil, fmt.Errorf("%q names no host; want %s", rest, want)
	}
	u, err := url.Parse(scheme + schemeEnd + rest)
	if err != nil || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return nil, fmt.Errorf("it cannot be read; percent-encode what is special in user and password (%%25 for %%, %%40 for @); want %s", want)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("its port cannot be, want 1 to 65535")
		}
	}
	return u, nil
}

// checkProxyOfEnvironment says what is wrong with the proxies of the environment, which would be taken for none.
func checkProxyOfEnvironment() error {
	environment := httpproxy.FromEnvironment()
	for _, proxy := range []struct{ name, url string }{{"HTTP_PROXY", environment.HTTPProxy}, {"HTTPS_PROXY", environment.HTTPSProxy}} {
		if proxy.url == "" {
			continue
		}
		if _, err := ParseProxyURL(proxy.url, targetProxySchemes...); err != nil {
			return fmt.Errorf("proxy_from_environment: %s: %w", proxy.name, err)
		}
	}
	return nil
}
