// Shows what changes without loading the page again. The server says that something has changed, and the page asks for itself once more.
import { morph } from "./morph.js";
import { showTimes, setClock } from "./times.js";

const beat = 15_000; // how often the server says that it is there
const silence = 40_000; // after which it is not
const poll = 30_000; // how often a page asks that hears of nothing
const rest = 2000; // from one answer to the next question, at least
const weight = 20; // and at least so many times as long as the answer took

const main = document.getElementById("main");
const sign = document.getElementById("live");
let leave = null; // ends what is heard; null while nothing is
let heardAt = 0;
let wanted = false; // something has changed since the page asked last
let askedAt = 0;
let notBefore = 0;
let asking = null;
let held = 0; // how many things stand in the way of changing the page

// hold keeps the page as it is until the function is called that it returns.
export function hold() {
  held++;
  return () => { held--; };
}

function tell(state, text, title) {
  sign.dataset.state = state;
  sign.textContent = text;
  sign.title = title;
}

// refresh makes the page what it would be if it were loaded again.
export async function refresh() {
  wanted = false;
  const began = performance.now();
  askedAt = began;
  asking = new AbortController();
  try {
    const answer = await fetch(location.href, { signal: asking.signal, headers: { Accept: "text/html" }, redirect: "error" });
    const text = await answer.text();
    const page = new DOMParser().parseFromString(text, "text/html");
    const next = page.getElementById("main");
    if (!next) throw new Error(`answered ${answer.status}`);
    if (held > 0) { wanted = true; return; }
    document.title = page.title;
    morph(main, next);
    const time = page.querySelector("footer time");
    if (time) {
      setClock(new Date(time.dateTime));
      document.querySelector("footer time").dateTime = time.dateTime;
    }
    showTimes();
    document.dispatchEvent(new Event("pushrelay:changed"));
    if (!document.body.dataset.events) tell("on", "live", "the page asks every 30 seconds");
  } catch (problem) {
    if (problem.name !== "AbortError") tell("off", "no connection", String(problem.message || problem));
  } finally {
    asking = null;
    notBefore = performance.now() + Math.max(rest, weight * (performance.now() - began));
  }
}

// hear calls a function with the name of each event, until the function is called that it returns.
let worker = null;

function hear(path, heard) {
  path = new URL(path, location.href).href; // without the password of a page that was opened with one
  if (typeof SharedWorker === "undefined") { // as on some phones
    const stream = new EventSource(path);
    for (const name of [...main.dataset.topics.split(" "), "beat"]) stream.addEventListener(name, () => heard(name));
    stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) heard("closed"); });
    return () => stream.close();
  }
  worker ??= new SharedWorker(new URL("./ears.js", import.meta.url));
  worker.port.onmessage = ({ data }) => heard(data);
  worker.port.postMessage(path);
  return () => {
    worker.port.onmessage = null;
    worker.port.postMessage("");
  };
}

function listen() {
  const path = document.body.dataset.events;
  if (!path || leave) return;
  const topics = main.dataset.topics.split(" ");
  leave = hear(path, (name) => {
    if (name === "closed") { deafen(); return; } // too many listen, or something on the way does not let it through
    heardAt = performance.now();
    tell("on", "live", "changes are shown as they come");
    if (topics.includes(name)) wanted = true;
    // What is late, and how long ago it was, changes by itself.
    if (name === "beat" && performance.now() - askedAt >= beat) wanted = true;
  });
}

function deafen() {
  leave?.();
  leave = null;
}

function look() {
  if (document.hidden || held > 0) return;
  const now = performance.now();
  if (leave && heardAt && now - heardAt > silence) { deafen(); tell("off", "not live", "nothing was heard of the relay for a while"); }
  if (!leave && now - askedAt > poll) { wanted = true; listen(); }
  if (wanted && !asking && now >= notBefore) refresh();
}

export function startLive() {
  if (!main.dataset.topics) { sign.hidden = true; return; }
  askedAt = performance.now();
  if (document.body.dataset.events) tell("off", "…", "waiting for the relay");
  else tell("on", "live", "the page asks every 30 seconds");
  listen();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      deafen(); // nobody looks
      asking?.abort();
    } else {
      wanted = true;
      listen();
    }
  });
  addEventListener("pagehide", deafen);
  addEventListener("pageshow", (event) => { if (event.persisted) { wanted = true; listen(); } });
  setInterval(look, 250);
}
