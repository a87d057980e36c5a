// What a page has beyond reading: live changes, times of one's choice, copying, and undoing.
import { startLive } from "./live.js";
import { startTimes, setClock } from "./times.js";
import { arm, tell } from "./undo.js";
import { kept, keep } from "./settings.js";

function startTheme() {
  const select = document.getElementById("theme");
  select.value = kept("theme", "auto");
  select.addEventListener("change", () => {
    keep("theme", select.value);
    if (select.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = select.value;
  });
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea"); // where the connection is no secure one
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("the browser does not let it");
}

function offerCopies() {
  for (const box of document.querySelectorAll(".copy")) {
    if (box.querySelector("button")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.own = "";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await copy(box.querySelector("code").textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      } catch (problem) {
        tell("is-bad", `This could not be copied: ${problem.message}`);
      }
    });
    box.append(button);
  }
}

// Filters apply as they are chosen. What is typed applies with the enter key.
function startFilters() {
  document.addEventListener("change", (event) => {
    if (event.target.matches(".filter select")) event.target.form.requestSubmit();
  });
  document.addEventListener("submit", (event) => { // links without parameters that say nothing
    if (event.target.matches(".filter")) for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
  });
  addEventListener("pageshow", () => { for (const field of document.querySelectorAll(".filter :disabled")) field.disabled = false; });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const search = document.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  });
}

function dress() {
  offerCopies();
  arm();
}

document.querySelector(".tools").hidden = false;
const time = document.querySelector("footer time");
if (time) setClock(new Date(time.dateTime));
document.querySelector(".top [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
startTheme();
startTimes();
startFilters();
dress();
document.addEventListener("pushrelay:changed", dress);
startLive();
