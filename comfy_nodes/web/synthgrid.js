// Shows, before anything runs, what a batcher would make, and how many images of each class a saver
// has. The server computes both (comfy_nodes/routes.py) from the widgets of the linked nodes. Also
// makes sure that a new batcher counts up.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addPanel } from "./panel.js";
import { BATCHER, SAVER, requestFor } from "./request.js";

const LOOK_MS = 400; // a change is sent to the server once it has stayed the same for one interval
const PANELS = {
  [BATCHER]: { name: "plan", show: batcherLines, minHeight: () => 150, maxHeight: () => 600 },
  [SAVER]: {
    name: "progress",
    show: saverLines,
    minHeight: (ran) => (ran ? 330 : 90),
    maxHeight: (ran) => (ran ? 2000 : 160),
  },
};
// node -> {panel, seen, asked, ran}; `ran` is the output of the node's last run, if any
const watched = new Map();

const plural = (count, word, words = `${word}s`) => `${count} ${count === 1 ? word : words}`;

function batcherLines(answer, ran) {
  const lines = [
    {
      kind: "head",
      text:
        `${plural(answer.classes, "class", "classes")} x ${answer.images_per_class} = ` +
        `${plural(answer.images, "image")} in ${plural(answer.batches, "batch", "batches")}`,
    },
  ];
  if (answer.missing !== undefined) {
    lines.push({ text: `${answer.missing} of them are not in '${answer.resume_folder}' yet` });
  }
  if (ran) lines.push({ text: `Made: ${ran.text?.[0] ?? ""}`, kind: "dim" });
  if (answer.batch_index >= answer.batches) {
    const text = "The plan is finished. Set batch_index to 0 to start over, or add images.";
    return [...lines, { text }];
  }
  const next = `Next: batch ${answer.batch_index + 1} of ${answer.batches}`;
  if (answer.batch_images === 0) {
    return [...lines, { text: `${next}: all of its images exist, nothing will be sampled` }];
  }
  const skipped = answer.batch_existing ? `, without ${answer.batch_existing} existing` : "";
  lines.push({ text: next + skipped });
  lines.push(...answer.rows.map((row) => ({ text: `${row.label}: ${row.prompt}` })));
  const hidden = answer.batch_images - answer.rows.length;
  if (hidden > 0) lines.push({ text: `and ${plural(hidden, "more image")}`, kind: "dim" });
  return lines;
}

function saverLines(answer, ran) {
  const total = Object.values(answer.done).reduce((sum, count) => sum + count, 0);
  const head = `${total} of this plan's ${plural(answer.images, "image")} exist`;
  const lines = [{ text: head, kind: "head" }];
  const [summary, ...warnings] = ran?.text ?? [];
  if (summary) lines.push({ text: summary, kind: "dim" });
  lines.push(...warnings.map((text) => ({ text, kind: "warning" })));
  if (ran?.images?.length) lines.push({ figures: figures(ran) });
  for (const [label, count] of Object.entries(answer.done)) {
    const kind = count === answer.images_per_class ? "dim" : undefined;
    lines.push({ text: `${label} ${count} of ${answer.images_per_class}`, kind });
  }
  return lines;
}

function figures({ images, synthgrid_records: records = [] }) {
  return images.map((image, row) => {
    // With the hash, the browser does not show an overwritten image from its cache.
    const hash = records[row]?.sha256 ?? "";
    const query = new URLSearchParams({ ...image, hash });
    return { url: api.apiURL(`/view?${query}`), caption: records[row]?.label ?? "" };
  });
}

// The frontend keeps outputs when a workflow is closed and opened again, but its nodes are new.
function ranOf(node, state) {
  return state.ran ?? app.nodeOutputs?.[node.id] ?? null;
}

async function ask(node, state, body) {
  state.asked = body;
  let answer;
  try {
    const response = await api.fetchApi("/synthgrid/preview", { method: "POST", body });
    answer = await response.json();
  } catch {
    answer = { error: "No preview: ComfyUI does not respond." };
  }
  if (state.asked !== body) return; // a newer question has been sent
  const { show } = PANELS[node.comfyClass];
  const failed = [{ text: answer.error, kind: "error" }];
  state.panel.show(answer.error ? failed : show(answer, ranOf(node, state)));
}

function look(node, state) {
  const { request, problem } = requestFor(node);
  const body = problem ?? JSON.stringify(request);
  const settled = body === state.seen;
  state.seen = body;
  if (!settled || body === state.asked) return;
  if (request) {
    ask(node, state, body);
  } else {
    state.asked = body;
    state.panel.show([{ text: problem, kind: "dim" }]);
  }
}

// One timer instead of a hook on every widget: it also notices undo, loaded files, reroutes and
// changes by other extensions.
function lookAtAll() {
  if (document.hidden) return;
  for (const [node, state] of watched) if (node.graph) look(node, state);
}

function watch(node) {
  const { name, minHeight, maxHeight } = PANELS[node.comfyClass];
  const state = { panel: null, seen: null, asked: null, ran: null };
  state.panel = addPanel(node, name, {
    minHeight: () => minHeight(ranOf(node, state)),
    maxHeight: () => maxHeight(ranOf(node, state)),
  });
  watched.set(node, state);
  if (node.comfyClass === SAVER) showNoOtherImages(node);
  const { onExecuted, onRemoved } = node;
  node.onExecuted = function (message) {
    onExecuted?.apply(this, arguments);
    state.ran = message;
    for (const each of watched.values()) each.asked = null; // ask again: more images exist now
    grow(this);
  };
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments);
    watched.delete(node);
  };
  grow(node, 360);
}

// The panel shows the images with their labels; the frontend would show them again without.
function showNoOtherImages(node) {
  node.hideOutputImages = true; // for nodes drawn as HTML
  const nothing = { get: () => undefined, set: () => {}, configurable: true };
  Object.defineProperty(node, "imgs", nothing); // for nodes drawn on the canvas
}

// Enlarges the node to what its content needs; never makes it smaller than it is.
function grow(node, width = 0) {
  const [least, high] = node.computeSize();
  node.setSize([Math.max(node.size[0], least, width), Math.max(node.size[1], high)]);
}

function countUp(node) {
  // Older frontends set this to "randomize", which would repeat some batches and skip others.
  const control = node.widgets?.find((widget) => widget.name === "control_after_generate");
  if (control) control.value = "increment";
}

app.registerExtension({
  name: "SynthGrid.Plan",

  setup() {
    setInterval(lookAtAll, LOOK_MS);
  },

  nodeCreated(node) {
    if (node.comfyClass === BATCHER) countUp(node);
    if (node.comfyClass in PANELS) watch(node);
  },
});
