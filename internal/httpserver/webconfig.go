package httpserver

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"pushrelay/internal/yamldoc"
)

// usersKey and tlsKey are sections of a web configuration file.
const (
	usersKey = "basic_auth_users"
	tlsKey   = "tls_server_config"
)

// ConfigKeys are the sections of a web configuration file.
func ConfigKeys() []string { return []string{tlsKey, "http_server_config", "rate_limit", usersKey} }

// IsConfig reports whether one of these keys is that of a web configuration file.
func IsConfig(keys []string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(ConfigKeys(), key) })
}

// ConfigSummary is what a web configuration file asks for.
type ConfigSummary struct {
	TLS bool
	// Users is how many users have a password.
	Users int
}

// String says it in a few words.
func (c ConfigSummary) String() string {
	text := "no TLS"
	if c.TLS {
		text = "TLS"
	}
	return fmt.Sprintf("%s, users with a password: %d", text, c.Users)
}

// CheckConfig checks a web configuration file as Listen does. It listens nowhere.
func CheckConfig(file string) (ConfigSummary, error) {
	text, err := checkConfig(file)
	if err != nil {
		return ConfigSummary{}, err
	}
	var content struct {
		TLS   yaml.Node            `yaml:"tls_server_config"`
		Users map[string]yaml.Node `yaml:"basic_auth_users"`
	}
	if err := yaml.Unmarshal(text, &content); err != nil {
		return ConfigSummary{}, errors.New(oneLine(err.Error()))
	}
	return ConfigSummary{TLS: len(content.TLS.Content) > 0, Users: len(content.Users)}, nil
}

// checkConfig checks a web configuration file, also behind the end at which web.Validate stops: passwords that stand there
// would protect nothing. It returns what is in it; nothing for no file.
func checkConfig(file string) (text []byte, err error) {
	if err := web.Validate(file); err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	if file == "" {
		return nil, nil
	}
	if text, err = os.ReadFile(file); err != nil {
		return nil, err
	}
	_, err = yamldoc.Parse(text)
	return text, err
}
