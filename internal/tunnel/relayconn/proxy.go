package relayconn

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ProxyAddress returns where a proxy is dialled, host:port.
func ProxyAddress(proxy *url.URL) string {
	if proxy.Port() != "" {
		return proxy.Host
	}
	return net.JoinHostPort(proxy.Hostname(), "80")
}

// Connect asks the proxy at the other end of the connection for one to the address; the proxy resolves the name (T10).
func Connect(conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return nil, fmt.Errorf("asking proxy %s for %s: %w", proxy.Host, address, err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request) //nolint:bodyclose // What follows the head is the tunnel itself.
	if err != nil {
		return nil, fmt.Errorf("asking proxy %s for %s: %w", proxy.Host, address, err)
	}
	if response.StatusCode == http.StatusProxyAuthRequired {
		return nil, fmt.Errorf("proxy %s refuses a connection to %s: %s: %s", proxy.Host, address, response.Status, explainChallenges(response.Header, proxy.User != nil))
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("proxy %s refuses a connection to %s: %s", proxy.Host, address, response.Status)
	}
	return &readAheadConn{Conn: conn, reader: reader}, nil
}

// explainChallenges says what a proxy wants that asks who the agent is. sent says that it was told user and password.
func explainChallenges(header http.Header, sent bool) string {
	schemes := challenges(header)
	offers := "it offers " + strings.Join(schemes, ", ")
	basic := slices.ContainsFunc(schemes, func(scheme string) bool { return strings.EqualFold(scheme, "Basic") })
	switch {
	case len(schemes) == 0:
		return "it does not say how"
	case !basic:
		return offers + ", and an agent knows Basic only"
	case sent:
		return offers + ", and takes neither user nor password of the proxy's URL"
	default:
		return offers + "; give user and password in the proxy's URL"
	}
}

// maxChallenges bounds what is told of an answer of which nobody knows where it comes from.
const maxChallenges = 8

// challenges returns the schemes of authentication that a proxy offers (RFC 9110, section 11.6.1).
func challenges(header http.Header) []string {
	var schemes []string
	for _, value := range header.Values("Proxy-Authenticate") {
		for _, part := range splitUnquoted(value) {
			word, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			// A part that is no scheme is a parameter of the one before: name="value".
			if word == "" || len(word) > 40 || strings.ContainsFunc(word, notInScheme) || slices.Contains(schemes, word) {
				continue
			}
			if schemes = append(schemes, word); len(schemes) == maxChallenges {
				return schemes
			}
		}
	}
	return schemes
}

func notInScheme(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// splitUnquoted splits a list at the commas that are not within quotes.
func splitUnquoted(list string) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++ // whatever it is, it ends no quote
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			parts = append(parts, list[start:i])
			start = i + 1
		}
	}
	return append(parts, list[start:])
}
