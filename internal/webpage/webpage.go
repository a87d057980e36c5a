// Package webpage is what the pages of both programs have in common: the frame around them, their style and scripts, how times are told,
// and the headers that they are sent with.
//
// It promises pages that read well without a script, need nothing from elsewhere and run nothing that came with their content; all links in
// them are relative, so that they work below any prefix. It knows neither relay nor agent. Start reading at [Pages].
package webpage

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"pushrelay/internal/exposition"
	"pushrelay/internal/httpserver"
)

// Policy is the Content-Security-Policy of every page: scripts and styles are files of ours, and nothing of a page is one.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// atOnce is how many pages are made at once. Those of a full store look at all of it.
const atOnce = 2

//go:embed frame
var frameFiles embed.FS

// Config is what [New] makes pages of.
type Config struct {
	// Templates has one file for each page, named NAME.html, that defines "content", and files named _….html that define parts for all of
	// them. Required.
	Templates fs.FS
	// Funcs are further functions of the templates.
	Funcs template.FuncMap
	// Program is what stands in the head of each page.
	Program string
	// Places are the pages that every page leads to.
	Places []Place
	// Events is where the page hears of changes, below the prefix of all routes; empty for a page that asks from time to time.
	Events string
	// Logger reports a page that could not be made. Required.
	Logger *slog.Logger
}

// A Place is a page that others lead to.
type Place struct {
	// Name is what people read, Path the path below the prefix of all routes, without a leading slash.
	Name, Path string
}

// Page is one page.
type Page struct {
	// Template is the name of its file, without .html.
	Template string
	// Title is that of the window, and its largest heading; it is text.
	Title string
	// Place is the name of the place that it belongs to; empty for none.
	Place string
	// Status is that of the answer; 0 stands for 200.
	Status int
	// Topics are the names of the events at which it is another one, with blanks between them; empty for one that stays as it is.
	Topics string
	// Version is the release of the program; empty for one that is not told.
	Version string
	// Content is what the template shows.
	Content any
}

// Pages makes pages from templates. It is safe for concurrent use and starts nothing.
type Pages struct {
	cfg    Config
	byName map[string]*template.Template
	assets *assets
	turns  chan struct{}
}

// New returns pages. A template that cannot be read is a mistake of the program, and panics.
func New(cfg Config) *Pages {
	p := &Pages{cfg: cfg, byName: map[string]*template.Template{}, assets: newAssets(), turns: make(chan struct{}, atOnce)}
	frame := template.Must(template.New("frame.html").Funcs(funcs).Funcs(cfg.Funcs).ParseFS(frameFiles, "frame/*.html"))
	files, err := fs.Glob(cfg.Templates, "*.html")
	if err != nil || len(files) == 0 {
		panic(fmt.Sprintf("there are no templates: %v", err))
	}
	isPart := func(file string) bool { return strings.HasPrefix(file, "_") }
	for _, file := range files {
		if isPart(file) {
			template.Must(frame.ParseFS(cfg.Templates, file))
		}
	}
	for _, file := range files {
		if isPart(file) {
			continue
		}
		t := template.Must(template.Must(frame.Clone()).ParseFS(cfg.Templates, file))
		p.byName[strings.TrimSuffix(file, ".html")] = t
	}
	return p
}

// framed is what the frame shows.
type framed struct {
	Page
	Program string
	Places  []Place
	Root    string // leads from the page to the prefix of all routes; ends in a slash
	Assets  string // leads to the assets
	Events  string
	Now     Moment
}

// Show answers with a page. Depth is how many folders below the prefix of all routes the page is: 0 for /, and for /agents, 1 for /agents/a. The page is made
// when it is its turn.
func (p *Pages) Show(w http.ResponseWriter, r *http.Request, depth int, newPage func(now time.Time) Page) {
	p.SetHeaders(w.Header())
	select {
	case p.turns <- struct{}{}:
	default:
		select {
		case p.turns <- struct{}{}:
		case <-r.Context().Done(): // whoever only closed the sending half still reads
			http.Error(w, "other pages are being made, ask again", http.StatusServiceUnavailable)
			return
		}
	}
	zipped := exposition.NegotiateEncoding(r.Header.Get("Accept-Encoding")) == exposition.Gzip
	body, status, err := p.make(depth, newPage, zipped)
	<-p.turns // before writing: a reader that stalls costs its page and nobody else's turn
	if err != nil {
		p.cfg.Logger.Error("the page could not be made", slog.Any("err", err))
		http.Error(w, "the page could not be made, the log has the reason", http.StatusInternalServerError)
		return
	}
	if zipped {
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		httpserver.NewStallWriter(w).Write(body) //nolint:errcheck // Whoever is gone has nobody to tell.
	}
}

// ShowHead answers to HEAD where every page is there. It costs no page.
func (p *Pages) ShowHead(w http.ResponseWriter, _ *http.Request) { p.SetHeaders(w.Header()) }

// SetHeaders sets what every page is sent with.
func (p *Pages) SetHeaders(header http.Header) {
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", Policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept-Encoding")
}

// make makes a page, compressed or not.
func (p *Pages) make(depth int, newPage func(now time.Time) Page, zipped bool) (body []byte, status int, err error) {
	now := time.Now()
	page := newPage(now)
	root := "./"
	if depth > 0 {
		root = strings.Repeat("../", depth)
	}
	f := framed{
		Page: page, Program: p.cfg.Program, Places: p.cfg.Places, Root: root, Assets: root + "assets/" + p.assets.version + "/",
		Events: p.cfg.Events, Now: MomentOf(now, now),
	}
	var out bytes.Buffer
	if err := p.byName[page.Template].ExecuteTemplate(&out, "frame.html", f); err != nil {
		return nil, 0, fmt.Errorf("making the page %s: %w", page.Template, err)
	}
	status, body = max(page.Status, http.StatusOK), showControls(out.Bytes())
	if !zipped {
		return body, status, nil
	}
	var small bytes.Buffer
	z, err := gzip.NewWriterLevel(&small, gzip.BestSpeed)
	if err == nil {
		_, err = z.Write(body)
	}
	if err == nil {
		err = z.Close()
	}
	return small.Bytes(), status, err
}

// ServeAsset serves the files that pages need, as /assets/VERSION/NAME.
func (p *Pages) ServeAsset(w http.ResponseWriter, r *http.Request) {
	version, name := path.Split(r.URL.Path)
	p.assets.serve(w, r, path.Base(version), name)
}
