// A read-only text panel in a node: an answer, not a setting. Neither the saved workflow nor the queued prompt has it.

/**
 * Adds the panel and returns it. `show(list)` shows {text, kind?} lines, kind "head", "error", "warning" or "dim", and {figures: list of
 * {url, caption}}: images with a caption under each. Heights are functions, asked anew whenever the node is laid out.
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
  return { show: (list) => element.replaceChildren(...list.map((each) => (each.figures ? gallery(each) : line(each)))) };
}

// Text is put in as text: class names and prompts may hold anything.
function line({ text, kind }) {
  const element = document.createElement("div");
  element.textContent = text;
  if (kind === "head") element.style.fontWeight = "bold";
  if (kind === "error") element.style.color = "var(--error-text, #ff6b6b)";
  if (kind === "warning") element.style.color = "#e8b339";
  if (kind === "dim") element.style.opacity = "0.65";
  return element;
}

function gallery({ figures }) {
  const element = document.createElement("div");
  Object.assign(element.style, {
    display: "grid",
    gridTemplateColumns: "repeat(auto-fill, minmax(84px, 1fr))",
    gap: "6px",
    margin: "4px 0",
  });
  element.replaceChildren(...figures.map(figure));
  return element;
}

function figure({ url, caption }) {
  const element = document.createElement("figure");
  element.style.margin = "0";
  const image = document.createElement("img");
  Object.assign(image, { src: url, alt: caption, title: caption, loading: "lazy" });
  Object.assign(image.style, { display: "block", width: "100%", aspectRatio: "1", objectFit: "contain" });
  const label = document.createElement("figcaption");
  label.textContent = caption;
  Object.assign(label.style, { textAlign: "center", fontWeight: "bold" });
  element.replaceChildren(image, label);
  return element;
}
