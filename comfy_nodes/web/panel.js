// A read-only panel in a node. It shows answers, not settings: neither the saved workflow nor the
// queued prompt contains it.
import { comparer } from "./compare.js";
import { t } from "./words.js";

/**
 * Adds the panel and returns it. `show(list)` shows lines {text, kind?}, with kind "head", "error",
 * "warning" or "dim", and {figures: list of {url, caption}}: images, each with a caption below it
 * and a box to tick; two that are ticked are compared above. The heights are functions, called
 * whenever the node is laid out.
 */
export function addPanel(node, name, { minHeight, maxHeight }) {
  const element = document.createElement("div");
  element.className = "synthgrid-panel";
  Object.assign(element.style, {
    boxSizing: "border-box",
    overflow: "auto",
    padding: "4px 6px",
    borderRadius: "4px",
    background: "var(--comfy-input-bg, #222)",
    color: "var(--input-text, #ddd)",
    font: "11px/1.4 sans-serif",
    userSelect: "text",
    whiteSpace: "pre-wrap",
    overflowWrap: "anywhere",
  });
  const widget = node.addDOMWidget(name, "synthgrid-panel", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: minHeight,
    getMaxHeight: maxHeight,
  });
  widget.serialize = false;
  const boxes = new Map(); // the box to tick of each image that is shown now
  const compared = comparer(() => {
    for (const [url, box] of boxes) box.checked = compared.has(url);
  });
  const content = document.createElement("div");
  element.append(compared.element, content);
  function show(list) {
    boxes.clear();
    const made = (each) => (each.figures ? gallery(each, compared, boxes) : line(each));
    content.replaceChildren(...list.map(made));
  }
  return { show };
}

// Set as text, not as HTML: class names and prompts may contain anything.
function line({ text, kind }) {
  const element = document.createElement("div");
  element.textContent = text;
  if (kind === "head") element.style.fontWeight = "bold";
  if (kind === "error") element.style.color = "var(--error-text, #ff6b6b)";
  if (kind === "warning") element.style.color = "#e8b339";
  if (kind === "dim") element.style.opacity = "0.65";
  return element;
}

function gallery({ figures }, compared, boxes) {
  const element = document.createElement("div");
  Object.assign(element.style, {
    display: "grid",
    gridTemplateColumns: "repeat(auto-fill, minmax(84px, 1fr))",
    gap: "6px",
    margin: "4px 0",
  });
  element.replaceChildren(...figures.map((image) => figure(image, compared, boxes)));
  return element;
}

function figure({ url, caption }, compared, boxes) {
  const element = document.createElement("figure");
  element.style.margin = "0";
  // A link, so that a click opens the image in full, and the browser's own menu copies or saves it.
  const link = document.createElement("a");
  Object.assign(link, { href: url, target: "_blank", rel: "noopener" });
  const image = document.createElement("img");
  Object.assign(image, { src: url, alt: caption, title: caption, loading: "lazy" });
  link.append(image);
  const style = { display: "block", width: "100%", aspectRatio: "1", objectFit: "contain" };
  Object.assign(image.style, style);
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", checked: compared.has(url) });
  box.addEventListener("change", () => {
    if (box.checked) compared.tick({ url, caption });
    else compared.untick(url);
  });
  boxes.set(url, box);
  const label = document.createElement("label");
  label.title = t("Tick two images to compare them.");
  Object.assign(box.style, { margin: "0 4px 0 0", verticalAlign: "middle" });
  label.append(box, caption); // a string is appended as text
  const text = document.createElement("figcaption");
  Object.assign(text.style, { textAlign: "center", fontWeight: "bold" });
  text.append(label);
  element.replaceChildren(link, text);
  return element;
}
