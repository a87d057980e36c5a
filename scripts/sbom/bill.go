package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeBill writes the bill of materials of a program beside it.
func writeBill(program, version string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	bom, err := bill(strings.TrimSuffix(filepath.Base(program), ".exe"), version, sha256.Sum256(content), info, licencesOf)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return err
	}
	return os.WriteFile(program+".cdx.json", out.Bytes(), 0o644)
}

// bill makes the bill of a program of which the modules and the checksum are known.
func bill(name, version string, sum [sha256.Size]byte, info *debug.BuildInfo, licences func(m *debug.Module) ([]string, error)) (*cdx.BOM, error) {
	root := cdx.Component{
		BOMRef: purl(info.Main.Path+"/cmd/"+name, version), Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		Licenses: licensed([]string{"Apache-2.0"}), Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: settings(info),
	}
	bom := cdx.NewBOM()
	// The number is that of the program: another program has another one, and the same has the same again.
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // a UUID of version 8, which says nothing about the rest
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	bom.Metadata = &cdx.Metadata{Component: &root, Lifecycles: &[]cdx.Lifecycle{{Phase: cdx.LifecyclePhasePostBuild}}}
	modules := append(slices.Clone(info.Deps), &debug.Module{Path: standard, Version: strings.TrimPrefix(info.GoVersion, "go")})
	var components []cdx.Component
	var refs []string
	for _, m := range modules {
		if m.Replace != nil {
			return nil, fmt.Errorf("module %s is replaced by another: sbom does not know how to name it", m.Path)
		}
		ids, err := licences(m)
		if err != nil {
			return nil, err
		}
		c := cdx.Component{
			BOMRef: purl(m.Path, m.Version), PackageURL: purl(m.Path, m.Version), Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
			Scope: cdx.ScopeRequired, Licenses: licensed(ids),
		}
		if m.Path != standard {
			sum, err := checksum(m.Sum)
			if err != nil {
				return nil, fmt.Errorf("module %s: %w", m.Path, err)
			}
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}
		}
		components = append(components, c)
		refs = append(refs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: root.BOMRef, Dependencies: &refs}}
	return bom, nil
}

func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

// settings are how the program was built.
func settings(info *debug.BuildInfo) *[]cdx.Property {
	var properties []cdx.Property
	for _, s := range info.Settings {
		properties = append(properties, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return &properties
}

func licensed(ids []string) *cdx.Licenses {
	if len(ids) == 1 {
		return &cdx.Licenses{{License: &cdx.License{ID: ids[0]}}}
	}
	return &cdx.Licenses{{Expression: strings.Join(ids, " AND ")}}
}

// checksum turns the sum of a module, as go.sum has it, into what a bill wants.
func checksum(sum string) (string, error) {
	encoded, ok := strings.CutPrefix(sum, "h1:")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("its checksum is %q: was it built from a vendored or changed copy?", sum)
	}
	return hex.EncodeToString(raw), nil
}

// licencesOf looks for the licences at the root of a module, in the cache of modules.
func licencesOf(m *debug.Module) ([]string, error) {
	dir := goroot()
	if m.Path != standard {
		out, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", m.Path+"@"+m.Version).Output()
		if dir = strings.TrimSpace(string(out)); err != nil || dir == "" {
			return nil, errors.Join(fmt.Errorf("module %s is not in the cache: run 'go mod download'", m.Path), err)
		}
	}
	texts, err := textsIn(dir)
	if err != nil {
		return nil, err
	}
	ids := module{texts: texts}.ids()
	if len(ids) == 0 {
		return nil, fmt.Errorf("module %s has no licence: may it be passed on?", m.Path)
	}
	return ids, nil
}
