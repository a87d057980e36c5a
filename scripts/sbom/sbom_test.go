package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

const sum = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" // of nothing

func info() *debug.BuildInfo {
	return &debug.BuildInfo{
		GoVersion: "go1.26.8", Main: debug.Module{Path: "pushrelay"},
		Deps:     []*debug.Module{{Path: "example.org/a/v2", Version: "v2.0.0+incompatible", Sum: sum}, {Path: "example.org/b", Version: "v1.0.0", Sum: sum}},
		Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}},
	}
}

func isc(*debug.Module) ([]string, error) { return []string{"ISC", "MIT"}, nil }

// TestBill: a bill names every module of the program and Go's own library, once each, is a good one, and is the same every time.
func TestBill(t *testing.T) {
	t.Parallel()
	encode := func(content string) string {
		bom, err := bill("relay-agent", "v1", sha256.Sum256([]byte(content)), info(), isc)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	text := encode("x")
	if text != encode("x") {
		t.Error("one program has two bills")
	}
	var bom, other cdx.BOM
	for text, into := range map[string]*cdx.BOM{text: &bom, encode("y"): &other} {
		if err := cdx.NewBOMDecoder(strings.NewReader(text), cdx.BOMFileFormatJSON).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(bom.SerialNumber) || bom.SerialNumber == other.SerialNumber {
		t.Errorf("the number is %s, and that of another program %s", bom.SerialNumber, other.SerialNumber)
	}
	var refs []string
	for _, c := range *bom.Components {
		refs = append(refs, c.BOMRef)
		if c.Licenses == nil || (*c.Licenses)[0].Expression != "ISC AND MIT" || c.PackageURL != c.BOMRef {
			t.Errorf("%s has the licences %+v and the URL %s", c.BOMRef, c.Licenses, c.PackageURL)
		}
	}
	want := []string{"pkg:golang/example.org/a/v2@v2.0.0%2Bincompatible", "pkg:golang/example.org/b@v1.0.0", "pkg:golang/std@1.26.8"}
	if !slices.Equal(refs, want) || !slices.Equal(*(*bom.Dependencies)[0].Dependencies, want) {
		t.Errorf("components %q, dependencies %q", refs, *(*bom.Dependencies)[0].Dependencies)
	}
	if h := *(*bom.Components)[0].Hashes; h[0].Value != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("the checksum is %v", h)
	}
}

// TestUnclearParts: what nobody can name or vouch for is an error, and not left out.
func TestUnclearParts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(i *debug.BuildInfo){
		"replaced":         func(i *debug.BuildInfo) { i.Deps[0].Replace = &debug.Module{Path: "../a"} },
		"without checksum": func(i *debug.BuildInfo) { i.Deps[1].Sum = "" },
	} {
		i := info()
		change(i)
		if _, err := bill("x", "v1", [32]byte{}, i, isc); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestLicences: those that are permitted are found, and all others are an error that names the file.
func TestLicences(t *testing.T) {
	t.Parallel()
	golang, err := os.ReadFile(filepath.Join(goroot(), "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	const gpl = "This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as published by the Free Software Foundation," +
		" either version 3 of the License, or (at your option) any later version.\n"
	for name, c := range map[string]struct {
		content string
		want    []string // nil for an error
	}{
		"Go's own":     {string(golang), []string{"BSD-3-Clause"}},
		"twice":        {string(golang) + "\r\n" + string(golang), []string{"BSD-3-Clause"}},
		"GPL":          {gpl, nil},
		"GPL as well":  {string(golang) + gpl, nil},
		"of one's own": {"Do what you like on Sundays.\n", nil},
		"nothing":      {"", nil},
	} {
		dir := t.TempDir()
		for _, file := range []string{"LICENSE", "license.go", "README"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		texts, err := textsIn(dir)
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), "LICENSE") {
				t.Errorf("%s: %v, %v, want an error", name, texts, err)
			}
			continue
		}
		if err != nil || len(texts) != 1 || !slices.Equal(texts[0].ids, c.want) || strings.Contains(texts[0].content, "\r") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNotices: each text comes once, below the names of all that have it.
func TestNotices(t *testing.T) {
	t.Parallel()
	mit := text{name: "LICENSE", content: "the text\n", ids: []string{"MIT"}}
	var out strings.Builder
	err := writeNotices(&out, []module{
		{path: "example.org/a", version: "v1.0.0", texts: []text{mit}},
		{path: "example.org/b", version: "v1.1.0", texts: []text{mit, {name: "NOTICE", content: "a notice\n"}}},
		{path: standard, texts: []text{{name: "LICENSE", content: "other\n", ids: []string{"BSD-3-Clause"}}}},
	})
	got := out.String()
	for _, want := range []string{
		"example.org/a v1.0.0: MIT\nexample.org/b v1.1.0: MIT\nGo, its runtime and standard library: BSD-3-Clause\n",
		"\nexample.org/a v1.0.0 (LICENSE)\nexample.org/b v1.1.0 (LICENSE)\n", "\nexample.org/b v1.1.0 (NOTICE)\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the notices lack %q:\n%s", want, got)
		}
	}
	if err != nil || strings.Count(got, "the text\n") != 1 {
		t.Errorf("%v:\n%s", err, got)
	}
}
