// What a reader chooses, kept by the browser where it keeps anything.
export function kept(name, otherwise) {
  try { return localStorage.getItem("pushrelay-" + name) ?? otherwise; } catch { return otherwise; }
}

export function keep(name, value) {
  try { localStorage.setItem("pushrelay-" + name, value); } catch { /* for this page only, then */ }
}
