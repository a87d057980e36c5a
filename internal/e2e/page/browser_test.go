//go:build linux

package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"pushrelay/internal/e2e/client"
	"pushrelay/internal/e2e/program"
	"pushrelay/internal/need"
)

// pagesFolder is where the pictures of the pages are kept, for people to look at.
var pagesFolder = filepath.Join("..", "..", "..", "bin", "pages")

// A browser is a tab of Debian's Chromium.
type browser struct {
	testing.TB

	ctx context.Context

	mu       sync.Mutex
	problems []string // guarded by mu; what the browser has complained of
}

// startBrowser starts a browser. Hosts of the domain .test are this machine.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	path := program.RequireProgram(t, "/usr/bin/chromium", "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox,
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	allocating, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	return newTab(allocating, t)
}

// newTab returns a tab of the browser of a context.
func newTab(of context.Context, t testing.TB, options ...chromedp.ContextOption) *browser {
	t.Helper()
	ctx, leave := chromedp.NewContext(of, options...)
	b := &browser{TB: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == "error" || m.Type == "warning" {
				b.mu.Lock()
				b.problems = append(b.problems, m.String())
				b.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		leave()
		listening.Wait()
	})
	b.do(chromedp.EmulateViewport(1280, 900))
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.Fatal(err)
	}
}

// eval returns what an expression of the page is worth.
func eval[T any](b *browser, expression string) T {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	for {
		value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		if err == nil {
			return value
		}
		if !pageLeft(err) || ctx.Err() != nil {
			b.Fatalf("%s: %v", expression, err)
		}
	}
}

// pageLeft says that a page was left while it was asked: the question is one for the next page.
func pageLeft(err error) bool {
	for _, text := range []string{"Inspected target navigated or closed", "Execution context was destroyed", "Cannot find context"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func (b *browser) open(url string) {
	b.Helper()
	b.do(chromedp.Navigate(url))
}

// back goes back to the page before.
func (b *browser) back() {
	b.Helper()
	b.do(chromedp.Evaluate[chromedp.Void]("history.back()"))
}

// text returns what a person reads in the content of the page.
func (b *browser) text() string {
	b.Helper()
	return eval[string](b, `(document.getElementById("main")?.innerText ?? "").replace(/[ \n\t\u00a0\u202f]+/g, " ")`)
}

// wantText waits until a person reads all of it.
func (b *browser) wantText(want ...string) {
	b.Helper()
	client.Eventually(b, 20*time.Second, "the page says it", func() error {
		text := b.text()
		for _, w := range want {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%w: %q is not in %.1500q", errPage, w, text)
			}
		}
		return nil
	})
}

// click clicks what a person would take for a link or button of that name, and waits until its page is there if it leads to one.
func (b *browser) click(name string) {
	b.Helper()
	found := eval[struct {
		X, Y   float64
		IsLink bool
	}](b, fmt.Sprintf(`(() => {
		for (const e of document.querySelectorAll("a, button, summary, label")) {
			if (!e.innerText.replace(/[ \n\t\u202f]+/g, " ").includes(%q) || e.disabled || e.getClientRects().length == 0) continue;
			e.scrollIntoView({block: "center"});
			const r = e.getClientRects()[0];
			return {X: r.x + r.width / 2, Y: r.y + r.height / 2, IsLink: !!e.href};
		}
		return {};
	})()`, name))
	if found.X == 0 {
		b.Fatalf("there is no %q to click on: %.1500s", name, b.text())
	}
	click := chromedp.MouseClickXY(found.X, found.Y)
	if !found.IsLink {
		b.do(click)
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, click); err != nil {
		b.Fatalf("clicking on %q: %v", name, err)
	}
}

// keep keeps a picture of the whole page.
func (b *browser) keep(name string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(pagesFolder, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pagesFolder, name+".png"), picture, 0o644); err != nil {
		b.Fatal(err)
	}
}

// look sets how wide the window is, and which colours its reader likes.
func (b *browser) look(width int64, colours string) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, 900), func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}}})
		return chromedp.Void{}, err
	})
}

// setScripts lets the pages run scripts, or not.
func (b *browser) setScripts(disabled bool) {
	b.Helper()
	b.do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: disabled})
		return chromedp.Void{}, err
	})
}

// wantNoProblems checks that the browser has complained of nothing: no script failed, and nothing was kept from being loaded.
func (b *browser) wantNoProblems(but ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
problems:
	for _, p := range b.problems {
		for _, known := range but {
			if strings.Contains(p, known) {
				continue problems
			}
		}
		b.Errorf("the browser says: %s", p)
	}
}

// axeSource is axe-core, as the lock file of testdata/axe has it.
func axeSource(t testing.TB) string {
	t.Helper()
	npm := program.RequireProgram(t, "/usr/bin/npm", "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "axe"))); err != nil {
		t.Fatal(err)
	}
	ci := program.Command{Path: npm, Dir: dir, Args: []string{"ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache=" + filepath.Join(dir, "cache")}}
	if r := program.Output(t, ci); r.Code != 0 {
		need.Missing(t, "npm ci: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	return client.ReadFile(t, filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
}

// wantAccessible checks that axe finds nothing wrong with the page.
func (b *browser) wantAccessible(axe, page string) {
	b.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](axe))
	found := eval[string](b, `axe.run(document, {resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map((v) => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map((n) => n.html + " " + n.failureSummary)}))))`)
	var violations []struct {
		ID, Help string
		Nodes    []string
	}
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		b.Fatalf("axe says %q: %v", found, err)
	}
	for _, v := range violations {
		b.Errorf("%s: %s: %s: %q", page, v.ID, v.Help, v.Nodes)
	}
}
