// A read-only panel in a node. It shows answers, not settings: neither the saved workflow nor the
// queued prompt contains it.

/**
 * Adds the panel and returns it. `show(list)` shows lines {text, kind?}, with kind "head", "error",
 * "warning" or "dim", and {figures: list of {url, caption}}: images, each with a caption below it.
 * The heights are functions, called whenever the node is laid out.
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
  const made = (each) => (each.figures ? gallery(each) : line(each));
  return { show: (list) => element.replaceChildren(...list.map(made)) };
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
  // A link, so that a click opens the image in full, and the browser's own menu copies or saves it.
  const link = document.createElement("a");
  Object.assign(link, { href: url, target: "_blank", rel: "noopener" });
  const image = document.createElement("img");
  Object.assign(image, { src: url, alt: caption, title: caption, loading: "lazy" });
  link.append(image);
  const style = { display: "block", width: "100%", aspectRatio: "1", objectFit: "contain" };
  Object.assign(image.style, style);
  const label = document.createElement("figcaption");
  label.textContent = caption;
  Object.assign(label.style, { textAlign: "center", fontWeight: "bold" });
  element.replaceChildren(link, label);
  return element;
}
