package webpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"

	"github.com/klauspost/compress/gzip"

	"pushrelay/internal/exposition"
)

//go:embed assets
var assetFiles embed.FS

// mimeTypes are those of the assets. What the system says of them differs from one to the next.
var mimeTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// assets are the files that pages need, whole and compressed. They are immutable.
type assets struct {
	// version is another one once any of the files is. It stands in their paths, so that browsers keep them.
	version string
	files   map[string]asset
}

type asset struct{ plain, zipped []byte }

func newAssets() *assets {
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // they are in the program
	}
	a := &assets{files: map[string]asset{}}
	sum := sha256.New()
	for _, e := range entries {
		plain, err := assetFiles.ReadFile("assets/" + e.Name())
		if err != nil {
			panic(err)
		}
		sum.Write([]byte(e.Name()))
		sum.Write(plain)
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		z.Write(plain) //nolint:errcheck // A buffer takes all.
		z.Close()      //nolint:errcheck // As above.
		a.files[e.Name()] = asset{plain, small.Bytes()}
	}
	a.version = hex.EncodeToString(sum.Sum(nil))[:12]
	return a
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request, version, name string) {
	file, known := a.files[name]
	if !known || version != a.version {
		http.Error(w, "no such file in this release: load the page again", http.StatusNotFound)
		return
	}
	header := w.Header()
	header.Set("Content-Type", mimeTypes[path.Ext(name)])
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'") // of an image that is looked at alone, and of a worker
	header.Set("Cache-Control", "private, max-age=31536000, immutable")
	header.Set("Vary", "Accept-Encoding")
	if exposition.NegotiateEncoding(r.Header.Get("Accept-Encoding")) == exposition.Gzip {
		header.Set("Content-Encoding", "gzip")
		w.Write(file.zipped)
		return
	}
	w.Write(file.plain)
}
