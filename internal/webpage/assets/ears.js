// One stream of events for all tabs of a browser: it opens no more than six connections to a server at once, and tabs with a stream each
// would leave none for anything else. This runs as a shared worker, for as long as there is a page that it was made by.
const names = ["groups", "agents", "beat"];
const pages = new Set(); // ports of those that listen
let events = null;

function tell(name) { for (const page of pages) page.postMessage(name); }

function look(path) {
  if (pages.size === 0) {
    events?.close();
    events = null;
    return;
  }
  if (events) return;
  events = new EventSource(path);
  for (const name of names) events.addEventListener(name, () => tell(name));
  events.addEventListener("error", () => {
    if (events?.readyState !== EventSource.CLOSED) return; // it tries again by itself
    events = null;
    tell("closed");
  });
}

self.addEventListener("connect", ({ ports: [page] }) => {
  page.addEventListener("message", ({ data: path }) => {
    if (path) pages.add(page); else pages.delete(page);
    look(path);
    if (path && events.readyState === EventSource.OPEN) page.postMessage("beat");
  });
  page.start();
});
