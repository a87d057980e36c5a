// What a form changes waits ten seconds in the page. Until then it can be undone, by not having been done: leaving the page is enough.
import { hold, refresh } from "./live.js";

const wait = 10; // seconds
const late = 4000; // milliseconds between two looks at the clock, after which nobody can have watched: browsers look once a second where a page is hidden
const pieceBytes = 200_000; // of one request: proxies take a megabyte

const notices = document.getElementById("notices");

function notice(kind, text) {
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  const words = document.createElement("p");
  words.textContent = text;
  box.append(words);
  notices.append(box);
  return { box, words };
}

export function tell(kind, text, seconds = 12) {
  const { box } = notice(kind, text);
  setTimeout(() => box.remove(), seconds * 1000);
}

// undone waits, and returns whether it was undone meanwhile. A page that is left is not gone: the browser keeps it as it stood, and lets it go on
// when its reader comes back, hours later maybe. A machine that slept does the same.
function undone(text) {
  const { box, words } = notice("", "");
  const count = document.createElement("span");
  count.setAttribute("aria-hidden", "true"); // read once, and not each second
  const button = document.createElement("button");
  button.textContent = "Undo";
  box.append(button);
  const what = document.createElement("bdi"); // it may have a name
  what.textContent = text;
  words.append(what, " ", count);
  button.focus();
  return new Promise((decided) => {
    let looked = Date.now();
    const until = looked + wait * 1000;
    const end = (was) => {
      clearInterval(ticks);
      removeEventListener("keydown", escape);
      removeEventListener("pagehide", leave);
      box.remove();
      decided(was);
    };
    const tick = () => {
      const now = Date.now();
      if (Math.abs(now - looked) > late) { end(true); return; }
      looked = now;
      const left = Math.ceil((until - now) / 1000);
      if (left <= 0) end(false); else count.textContent = `in ${left} s. Leaving this page cancels it.`;
    };
    const escape = (event) => { if (event.key === "Escape") end(true); };
    const leave = () => {
      clearInterval(ticks);
      addEventListener("pageshow", () => end(true), { once: true }); // says so to who comes back
    };
    const ticks = setInterval(tick, 200);
    addEventListener("keydown", escape);
    addEventListener("pagehide", leave);
    button.addEventListener("click", () => end(true));
    tick();
  });
}

// pieces cuts the fields of a form into bodies that proxies take.
function* pieces(fields) {
  let body = new URLSearchParams();
  for (const [name, value] of fields) {
    if (body.size > 0 && body.toString().length + value.length > pieceBytes) {
      yield body;
      body = new URLSearchParams();
    }
    body.append(name, value);
  }
  yield body;
}

// whereTo is where a form is sent. Its action has the password of a page that was opened as http://user:password@relay/, and fetch takes none;
// location.href has none, and the browser sends it all the same.
function whereTo(form) { return new URL(form.getAttribute("action"), location.href); }

// send changes what the fields name, piece by piece. No piece is sent any more once the page is left.
async function send(form, fields) {
  const total = {};
  const leaving = new AbortController();
  const leave = () => leaving.abort(new Error("the page was left meanwhile, and nothing more was done from then on"));
  addEventListener("pagehide", leave);
  try {
    for (const body of pieces(fields)) add(total, await sendPiece(form, body, leaving.signal));
  } finally {
    removeEventListener("pagehide", leave);
  }
  return total;
}

async function sendPiece(form, body, signal) {
  const answer = await fetch(whereTo(form), { method: "POST", body, signal, headers: { "X-Relay-Token": form.dataset.token, Accept: "application/json" }, redirect: "error" });
  const text = await answer.text();
  let said = null;
  try { said = JSON.parse(text); } catch { /* a proxy's words, or a refusal's */ }
  if (!answer.ok || !said) throw new Error((said && said.error) || text.trim().split("\n")[0].slice(0, 300) || `answered ${answer.status}`);
  return said;
}

function add(total, { counts, note }) {
  for (const [name, n] of Object.entries(counts || {})) total[name] = (total[name] || 0) + n;
  if (note) total.note = note;
}

function words(total) {
  const { note, ...counts } = total;
  const told = Object.entries(counts).filter(([, n]) => n > 0).map(([name, n]) => `${n} ${name}`);
  return (told.join(", ") || "nothing was there any more") + "." + (note ? ` ${note}` : "");
}

function counted(n, many, one) { return n === 1 && one ? one : many.replace("%d", n); }

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("[type=submit]");
  const fields = [...new FormData(form).entries()];
  const release = hold();
  button.disabled = true;
  try {
    if (await undone(counted(fields.length, form.dataset.doing, form.dataset.doingOne))) {
      tell("", "Nothing was changed.", 5);
      button.disabled = false;
      button.focus();
      return;
    }
    const total = await send(form, fields);
    tell("is-good", words(total));
  } catch (problem) {
    tell("is-bad", `This could not be done: ${problem.message}`, 60);
    button.disabled = false;
  } finally {
    release();
  }
  refresh();
}

// arm lets forms that change something do so, now that there is somebody to wait.
export function arm() {
  for (const form of document.querySelectorAll("form[data-doing]")) {
    count(form);
    if (form.dataset.armed) continue;
    form.dataset.armed = "true";
    form.addEventListener("submit", submit);
    form.addEventListener("change", () => count(form));
  }
}

// count writes on the button how many are chosen.
function count(form) {
  const button = form.querySelector("[type=submit]");
  const boxes = form.querySelectorAll("input[type=checkbox]");
  const chosen = [...boxes].filter((box) => box.checked).length;
  button.disabled = boxes.length > 0 && chosen === 0;
  if (button.dataset.words && boxes.length > 0) button.textContent = counted(chosen, button.dataset.words, button.dataset.wordsOne);
}
