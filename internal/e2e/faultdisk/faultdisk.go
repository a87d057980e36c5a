//go:build linux

package faultdisk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// Damage puts another byte in the place of the first of that text in a file, and returns what the file holds then.
func Damage(t *testing.T, file, text string, with byte) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(text))
	if at < 0 {
		t.Fatalf("%s does not hold %q", file, text)
	}
	content[at] = with
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return content
}

// SmallDisk mounts a file system of that many bytes.
func SmallDisk(t *testing.T, bytes int) string {
	t.Helper()
	program.RequireRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0755", bytes)); err != nil {
		need.Missing(t, "mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// Fill writes a file until the disk is full.
func Fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}

// Noise returns so many letters that no compression makes much smaller.
func Noise(letters int) string {
	b := make([]byte, letters)
	for i := range b {
		b[i] = byte('A' + rand.IntN(58))
		if b[i] == '\\' {
			b[i] = '_'
		}
	}
	return string(b)
}

// Tear makes the last batch of a segment one of which only the first half came to the disk: behind it is what the segment was
// filled with ahead, as it had been before.
func Tear(t *testing.T, segment string) {
	t.Helper()
	const header, batchHeader, salt, length = 48, 40, 32, 32
	content, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := 0, header
	for bytes.Equal(content[end:end+8], content[salt:salt+8]) {
		begin, end = end, end+batchHeader+int(binary.LittleEndian.Uint32(content[end+length:]))
	}
	if begin == 0 {
		t.Fatalf("%s has no batch", segment)
	}
	for i := (begin + end) / 2; i < end; i++ {
		content[i] = ^content[salt+i%8]
	}
	if err := os.WriteFile(segment, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
