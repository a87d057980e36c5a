package targets

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/common/config"

	"pushrelay/internal/fileowner"
	"pushrelay/internal/mtls"
)

// FileWarnings returns a warning for each file and directory that the configuration names and that is not there or is read in part,
// one line each. It may come later, so that this is no error. Before them it says who else may write to the configuration file and
// to the files with secrets and certificates; target files and text files are for others to write.
func (c *Config) FileWarnings() []string {
	relied := []fileowner.Named{{Name: "the configuration file", Path: c.file}}
	for _, sc := range c.ScrapeConfigs {
		for _, secret := range append(secretFiles(&sc.HTTPClient), tlsFiles(&sc.HTTPClient)...) {
			relied = append(relied, fileowner.Named{Name: fmt.Sprintf("%s of job %q", secret.key, sc.JobName), Path: secret.file})
		}
	}
	warnings := fileowner.Warnings(relied...)
	for _, sc := range c.ScrapeConfigs {
		for _, files := range sc.FileSDConfigs {
			for _, pattern := range files.Files {
				if why := whyNoMatch(pattern); why != "" {
					warnings = append(warnings, fmt.Sprintf("job %q: file_sd_configs: %s", sc.JobName, why))
				}
			}
		}
		for _, secret := range secretFiles(&sc.HTTPClient) {
			if err := readable(secret.file); err != nil {
				warnings = append(warnings, fmt.Sprintf("job %q: %s cannot be read: %v", sc.JobName, secret.key, err))
			}
		}
		if text, err := os.ReadFile(sc.HTTPClient.TLSConfig.CAFile); err == nil { // one that cannot be read is an error elsewhere
			for _, fault := range mtls.CertificateFaults(text) {
				warnings = append(warnings, fmt.Sprintf("job %q: ca_file %q is read in part: %s", sc.JobName, sc.HTTPClient.TLSConfig.CAFile, fault))
			}
		}
	}
	for _, d := range c.TextfileConfigs {
		if isMissing(d.Path) {
			warnings = append(warnings, fmt.Sprintf("textfile_configs: directory %q does not exist", d.Path))
		}
	}
	return warnings
}

// whyNoMatch says why no file matches a pattern; empty if one does. A file that is named without a pattern has an error of its
// own.
func whyNoMatch(pattern string) string {
	if matches, err := filepath.Glob(pattern); !hasPattern(pattern) || len(matches) > 0 || err != nil {
		return ""
	}
	if dir := filepath.Dir(pattern); !hasPattern(dir) && isMissing(dir) {
		return fmt.Sprintf("no file matches %q: its directory does not exist", pattern)
	}
	return fmt.Sprintf("no file matches %q", pattern)
}

func isMissing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// readable returns why a file cannot be read now. A pipe is not opened: what is in it can be read only once.
func readable(file string) error {
	stat, err := os.Stat(file)
	if err != nil || !stat.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// secretFile is a file that is read when a target is scraped, and not before.
type secretFile struct{ key, file string }

func secretFiles(c *config.HTTPClientConfig) []secretFile {
	var files []secretFile
	add := func(key, file string) {
		if file != "" {
			files = append(files, secretFile{key, file})
		}
	}
	if c.BasicAuth != nil {
		add("username_file", c.BasicAuth.UsernameFile)
		add("password_file", c.BasicAuth.PasswordFile)
	}
	if c.Authorization != nil { // bearer_token_file as well, once it was validated
		add("credentials_file", c.Authorization.CredentialsFile)
	}
	if c.OAuth2 != nil {
		add("client_secret_file", c.OAuth2.ClientSecretFile)
		add("client_certificate_key_file", c.OAuth2.ClientCertificateKeyFile)
	}
	if c.HTTPHeaders != nil {
		for _, header := range c.HTTPHeaders.Headers {
			for _, file := range header.Files {
				add("http_headers", file)
			}
		}
	}
	return files
}

// tlsFiles are those that are read with the configuration.
func tlsFiles(c *config.HTTPClientConfig) []secretFile {
	return []secretFile{{"ca_file", c.TLSConfig.CAFile}, {"cert_file", c.TLSConfig.CertFile}, {"key_file", c.TLSConfig.KeyFile}}
}
