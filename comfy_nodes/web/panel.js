// A read-only text panel in a node: an answer, not a setting. Neither the saved workflow nor the queued prompt has it.

/** Adds the panel and returns it: `lines(list of {text, kind?})` shows lines; kind is "head", "error" or "dim". */
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
    getMinHeight: () => minHeight,
    getMaxHeight: () => maxHeight,
  });
  widget.serialize = false;
  return { lines: (lines) => element.replaceChildren(...lines.map(line)) };
}

// Text is put in as text: class names and prompts may hold anything.
function line({ text, kind }) {
  const element = document.createElement("div");
  element.textContent = text;
  if (kind === "head") element.style.fontWeight = "bold";
  if (kind === "error") element.style.color = "var(--error-text, #ff6b6b)";
  if (kind === "dim") element.style.opacity = "0.65";
  return element;
}
