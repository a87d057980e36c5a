package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is whom the programs run as in a container, and who owns what they keep.
const nobody = 65534

// A container says how a program runs in one.
type container struct {
	description string
	health      []string // the command of the health check
	ports       []string
}

var containers = map[string]container{
	"relay-server": {
		description: "Takes metrics out of networks that nobody can dial into: a Pushgateway, and a relay for agents",
		health:      []string{"relay-server", "check-ready"},
		ports:       []string{"9091/tcp", "9443/tcp", "9444/tcp"},
	},
	"relay-agent": {
		description: "Dials out of an isolated network to relays: local jobs push to it, and relays scrape targets through it",
		health:      []string{"relay-agent", "status"},
		ports:       []string{"9091/tcp"},
	},
}

// A platformImage is the image for one platform.
type platformImage struct {
	platform platform
	v1.Image
}

// makeImages writes for each program one image for all platforms that containers run on, as an OCI layout in an archive.
func (r *release) makeImages() error {
	for _, name := range programs {
		var images []platformImage
		for _, p := range r.platforms {
			if p.os != "linux" {
				continue
			}
			program, err := r.program(p, name)
			if err != nil {
				return err
			}
			image, err := r.image(p, name, program)
			if err != nil {
				return fmt.Errorf("image of %s for %s: %w", name, p, err)
			}
			images = append(images, platformImage{p, image})
		}
		if len(images) == 0 {
			continue
		}
		if err := r.writeLayout(name, images); err != nil {
			return fmt.Errorf("image of %s: %w", name, err)
		}
	}
	return nil
}

// image makes one from nothing: the authorities that the Web trusts, the licences, an empty folder for the program's data, and the program.
func (r *release) image(p platform, name string, program []byte) (v1.Image, error) {
	base, err := layer([]file{
		{"data/", nil, os.ModeDir | 0o700},
		{"etc/ssl/certs/ca-certificates.crt", rootCertificates(), 0o644},
		{"usr/share/doc/" + name + "/LICENSE", r.read("LICENSE"), 0o644},
		{"usr/share/doc/" + name + "/THIRD_PARTY_NOTICES", r.read("THIRD_PARTY_NOTICES"), 0o644},
	}, r.time)
	if err != nil {
		return nil, err
	}
	top, err := layer([]file{{"usr/bin/" + name, program, 0o755}}, r.time)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	at := v1.Time{Time: r.time}
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{Created: at, CreatedBy: "certificate authorities and licences"}},
		mutate.Addendum{Layer: top, History: v1.History{Created: at, CreatedBy: name + " " + string(r.version)}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, at
	config.Config = r.containerConfig(name)
	return mutate.ConfigFile(image, config)
}

func (r *release) containerConfig(name string) v1.Config {
	c := containers[name]
	ports := map[string]struct{}{}
	for _, port := range c.ports {
		ports[port] = struct{}{}
	}
	return v1.Config{
		User:         fmt.Sprintf("%d:%d", nobody, nobody),
		Entrypoint:   []string{"/usr/bin/" + name},
		Env:          []string{"PATH=/usr/bin", "STATE_DIRECTORY=/data"},
		ExposedPorts: ports,
		Volumes:      map[string]struct{}{"/data": {}},
		WorkingDir:   "/",
		StopSignal:   "SIGTERM",
		// Docker's; Kubernetes and podman, whose images are OCI's, are told of theirs where they are told of the container.
		Healthcheck: &v1.HealthConfig{Test: append([]string{"CMD"}, c.health...), Interval: 30 * time.Second, Timeout: 10 * time.Second, StartPeriod: time.Minute, Retries: 3},
		Labels: map[string]string{
			"org.opencontainers.image.title":       name,
			"org.opencontainers.image.description": c.description,
			"org.opencontainers.image.version":     string(r.version),
			"org.opencontainers.image.revision":    r.revision,
			"org.opencontainers.image.created":     r.time.Format(time.RFC3339),
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.vendor":      "The pushrelay Authors",
		},
	}
}

// layer packs files for a container. What ends in a slash is a folder, which belongs to whom the program runs as; all else belongs to root.
func layer(files []file, at time.Time) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	seen := map[string]bool{}
	for _, f := range files {
		for i, c := range f.path {
			if dir := f.path[:i+1]; c == '/' && dir != f.path && !seen[dir] {
				seen[dir] = true
				if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at, Format: tar.FormatUSTAR}); err != nil {
					return nil, err
				}
			}
		}
		h := &tar.Header{Name: f.path, Typeflag: tar.TypeReg, Mode: int64(f.mode.Perm()), Size: int64(len(f.content)), ModTime: at, Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.path, "/") {
			h.Typeflag, h.Uid, h.Gid = tar.TypeDir, nobody, nobody
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// rootCertificates are those of Mozilla, of the release of their module in go.mod: the same wherever an image is made. Those that are trusted on conditions, which
// no file of certificates can say, are left out.
func rootCertificates() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) //nolint:errcheck // a buffer takes all
		}
	}
	return out.Bytes()
}

// writeLayout writes the image for all platforms under its name and version: an OCI layout, with the manifest besides that Docker wants which keeps its images by
// itself and not in containerd. It knows of no image for several platforms, so that each has a tag of its own there.
func (r *release) writeLayout(name string, images []platformImage) error {
	tag := fmt.Sprintf("localhost/%s:%s", name, r.version)
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var forDocker tarball.Manifest
	for _, image := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image.Image, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: image.platform.os, Architecture: image.platform.arch},
		}})
		manifest, err := image.Manifest()
		if err != nil {
			return err
		}
		one := tarball.Descriptor{Config: blobPath(manifest.Config.Digest), RepoTags: []string{tag + "-" + image.platform.arch}}
		for _, l := range manifest.Layers {
			one.Layers = append(one.Layers, blobPath(l.Digest))
		}
		forDocker = append(forDocker, one)
	}
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	annotations := map[string]string{"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": tag}
	if err := path.AppendIndex(index, layout.WithAnnotations(annotations)); err != nil {
		return err
	}
	encoded, err := json.Marshal(forDocker)
	if err != nil {
		return err
	}
	if err := path.WriteFile("manifest.json", encoded, 0o644); err != nil {
		return err
	}
	files, err := readTree(dir)
	if err != nil {
		return err
	}
	for i := range files {
		relative, err := filepath.Rel(dir, files[i].path)
		if err != nil {
			return err
		}
		files[i].path = filepath.ToSlash(relative)
	}
	var out bytes.Buffer
	if err := writeTar(tar.NewWriter(&out), files, r.time); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("%s-%s.oci.tar", name, r.version), out.Bytes())
}

// blobPath is where a layout has a blob.
func blobPath(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }
