package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// makeArchives writes one for each platform, with both programs.
func (r *release) makeArchives() error {
	for _, p := range r.platforms {
		name := fmt.Sprintf("pushrelay-%s.%s", r.version, p)
		files := slices.Clone(r.shared)
		for _, program := range programs {
			content, err := r.program(p, program)
			if err != nil {
				return err
			}
			files = append(files, file{p.program(program), content, 0o755})
		}
		for i := range files {
			files[i].path = name + "/" + files[i].path
		}
		slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
		pack, suffix := tarGzip, ".tar.gz"
		if p.os == "windows" {
			pack, suffix = zipped, ".zip"
		}
		content, err := pack(files, r.time)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := r.write(name+suffix, content); err != nil {
			return err
		}
	}
	return nil
}

// tarGzip packs files, which belong to root there.
func tarGzip(files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	zw, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := writeTar(tar.NewWriter(zw), files, at); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeTar writes files and closes the writer.
func writeTar(w *tar.Writer, files []file, at time.Time) error {
	for _, f := range files {
		h := &tar.Header{Name: f.path, Typeflag: tar.TypeReg, Mode: int64(f.mode.Perm()), Size: int64(len(f.content)), ModTime: at, Format: tar.FormatUSTAR, Uname: "root", Gname: "root"}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(f.content); err != nil {
			return err
		}
	}
	return w.Close()
}

func zipped(files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.path, Method: zip.Deflate, Modified: at}
		h.SetMode(f.mode)
		entry, err := w.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := entry.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
