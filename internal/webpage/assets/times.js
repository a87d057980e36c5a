// Times: as the server has written them, but of the present moment, and in the reader's time zone if that is wanted.
import { kept, keep } from "./settings.js";

const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
let shown = kept("times", "relative");

// span writes seconds as the server does, with the two largest units.
function span(seconds) {
  for (let i = 0; i < units.length; i++) {
    const [size, name] = units[i];
    if (seconds < size) continue;
    const small = units[i + 1];
    const rest = small ? Math.floor((seconds % size) / small[0]) : 0;
    return Math.floor(seconds / size) + name + (rest ? ` ${rest}${small[1]}` : "");
  }
  return "0s";
}

function relative(at, now) {
  const ahead = Math.floor((at - now) / 1000);
  return ahead >= 1 ? "in " + span(ahead) : span(Math.max(0, Math.floor((now - at) / 1000))) + " ago";
}

const two = (n) => String(n).padStart(2, "0");

function absolute(at, zone) {
  if (zone === "local") {
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  }
  return at.toISOString().slice(0, 19).replace("T", " ") + " UTC";
}

// The clock of the server, as far as the page knows it: that of the reader may be wrong.
let ahead = 0;

export function setClock(now) { ahead = now.getTime() - Date.now(); }

function set(element, text) { if (element.textContent !== text) element.textContent = text; }

export function showTimes(root = document) {
  const now = new Date(Date.now() + ahead);
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    const isAbsolute = "absolute" in element.dataset || (shown !== "relative" && !("relative" in element.dataset));
    set(element, isAbsolute ? absolute(at, shown) : relative(at, now));
    const title = isAbsolute ? relative(at, now) : absolute(at, shown);
    if (element.title !== title) element.title = title;
  }
}

export function startTimes() {
  const select = document.getElementById("times");
  select.value = shown;
  select.addEventListener("change", () => {
    shown = select.value;
    keep("times", shown);
    showTimes();
  });
  showTimes();
  setInterval(() => { if (!document.hidden) showTimes(); }, 1000);
}
