// Makes one element as another is, and keeps what need not be changed: focus, selections, what is open and what was typed stay.
export function morph(from, to) {
  morphAttributes(from, to);
  morphChildren(from, to);
}

function morphAttributes(from, to) {
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !isReaders(from, name)) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value && !isReaders(from, name)) from.setAttribute(name, value);
  }
}

// isReaders says whether an attribute is the reader's doing.
function isReaders(element, name) {
  if (name === "data-armed") return true;
  switch (element.tagName) {
  case "DETAILS": return name === "open";
  case "INPUT": return name === "value" || name === "checked";
  case "TIME": return name === "title";
  default: return false;
  }
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key : "") || "";

function isSame(a, b) { return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b); }

function morphChildren(from, to) {
  const keyed = new Map();
  for (const child of from.children) if (keyOf(child)) keyed.set(keyOf(child), child);
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = keyed.get(keyOf(wanted));
    if (known && known.nodeName === wanted.nodeName) {
      if (known !== at) from.insertBefore(known, at); else at = at.nextSibling;
      morph(known, wanted);
    } else if (at && isSame(at, wanted)) {
      const node = at;
      at = at.nextSibling;
      if (node.nodeType === Node.ELEMENT_NODE) morph(node, wanted);
      else if (node.nodeValue !== wanted.nodeValue && node.parentNode.nodeName !== "TIME") node.nodeValue = wanted.nodeValue;
    } else {
      from.insertBefore(document.importNode(wanted, true), at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    if (!(at.dataset && "own" in at.dataset)) at.remove(); // what a script has added stays
    at = next;
  }
}
