// Compares two images: one lies over the other, and a slider moves the edge between them.
import { t } from "./words.js";

const RIGHT = { textAlign: "right" };

/**
 * Keeps the images {url, caption} that are ticked, two at most, and shows them in `element`.
 * `changed()` is called when a tick has changed. A tick outlives the next run, so that an image can
 * be compared with one that is made later.
 */
export function comparer(changed) {
  const element = document.createElement("div");
  let ticked = [];
  function update(images) {
    ticked = images;
    element.replaceChildren(...shown(ticked, () => update([])));
    changed();
  }
  return {
    element,
    has: (url) => ticked.some((image) => image.url === url),
    tick: (image) => update([...ticked, image].slice(-2)), // a third one replaces the oldest
    untick: (url) => update(ticked.filter((image) => image.url !== url)),
  };
}

function shown(ticked, clear) {
  if (!ticked.length) return [];
  const button = made("button", { type: "button", textContent: t("Clear") }, { font: "inherit" });
  button.addEventListener("click", clear);
  if (ticked.length === 2) return [slider(...ticked), button];
  const { caption } = ticked[0];
  const text = t("'{caption}' is ticked; tick a second image to compare them.", { caption });
  return [made("div", { textContent: text }), button];
}

function slider(left, right) {
  const whole = { position: "absolute", inset: "0", width: "100%", height: "100%" };
  const fitted = { ...whole, objectFit: "contain", pointerEvents: "none" };
  const below = made("img", { src: right.url, alt: right.caption, draggable: false }, fitted);
  const above = made("img", { src: left.url, alt: left.caption, draggable: false }, fitted);
  const edge = made("div", {}, { position: "absolute", top: "0", bottom: "0", width: "1px" });
  Object.assign(edge.style, { background: "#fff", pointerEvents: "none" });
  const range = made("input", { type: "range", min: 0, max: 100, value: 50 }, whole);
  Object.assign(range.style, { margin: "0", opacity: "0", cursor: "ew-resize" });
  const either = { left: left.caption, right: right.caption };
  range.setAttribute("aria-label", t("{left} or {right}", either));
  const move = () => {
    above.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    edge.style.left = `${range.value}%`;
  };
  range.addEventListener("input", move);
  // Nodes are drawn as HTML in newer frontends: a drag here must not move the node.
  range.addEventListener("pointerdown", (event) => event.stopPropagation());
  move();
  const frame = made("div", {}, { position: "relative", width: "100%", aspectRatio: "1" });
  Object.assign(frame.style, { maxWidth: "512px", margin: "4px auto" });
  frame.append(below, above, edge, range);
  const names = made("div", {}, { display: "flex", justifyContent: "space-between", gap: "8px" });
  names.append(
    made("span", { textContent: left.caption }),
    made("span", { textContent: right.caption }, RIGHT),
  );
  const element = document.createElement("div");
  element.append(frame, names);
  return element;
}

function made(name, properties, style = {}) {
  const element = Object.assign(document.createElement(name), properties);
  Object.assign(element.style, style);
  return element;
}
