// Shows, before anything runs, what a batcher would make, and how far each class of a saver is. The server computes both
// (comfy_nodes/routes.py) from the widgets of the linked nodes. Also sees to it that a fresh batcher counts up.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addPanel } from "./panel.js";
import { BATCHER, SAVER, requestFor } from "./request.js";

const LOOK_MS = 400; // a change is asked about when it has stood still for one look
const PANELS = {
  [BATCHER]: { name: "plan", show: batcherLines, minHeight: 150, maxHeight: 600 },
  [SAVER]: { name: "progress", show: saverLines, minHeight: 90, maxHeight: 160 },
};
const watched = new Map(); // node -> {panel, seen, asked, ran}

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
  if (ran) lines.push({ text: `Made: ${ran.text?.[0] ?? ""}`, kind: "dim" });
  if (answer.rows.length === 0) {
    return [...lines, { text: "The plan is finished. Set batch_index to 0 to start over, or ask for more images." }];
  }
  lines.push({ text: `Next: batch ${answer.batch_index + 1} of ${answer.batches}` });
  lines.push(...answer.rows.map((row) => ({ text: `${row.label}: ${row.prompt}` })));
  const hidden = answer.batch_images - answer.rows.length;
  return hidden > 0 ? [...lines, { text: `and ${plural(hidden, "more image")}`, kind: "dim" }] : lines;
}

function saverLines(answer, ran) {
  const total = Object.values(answer.done).reduce((sum, count) => sum + count, 0);
  const lines = [{ text: `${total} of ${plural(answer.images, "image")} of this plan are there`, kind: "head" }];
  if (ran?.text?.length) lines.push({ text: ran.text[0], kind: "dim" });
  if (ran?.synthgrid_records?.length) {
    lines.push({ text: `Shown: ${ran.synthgrid_records.map((record) => record.label).join(", ")}`, kind: "dim" });
  }
  for (const [label, count] of Object.entries(answer.done)) {
    const kind = count === answer.images_per_class ? "dim" : undefined;
    lines.push({ text: `${label} ${count} of ${answer.images_per_class}`, kind });
  }
  return lines;
}

async function ask(node, state, body) {
  state.asked = body;
  let answer;
  try {
    const response = await api.fetchApi("/synthgrid/preview", { method: "POST", body });
    answer = await response.json();
  } catch {
    answer = { error: "No preview: ComfyUI does not answer." };
  }
  if (state.asked !== body) return; // a newer question is on its way
  const { show } = PANELS[node.comfyClass];
  state.panel.lines(answer.error ? [{ text: answer.error, kind: "error" }] : show(answer, state.ran));
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
    state.panel.lines([{ text: problem, kind: "dim" }]);
  }
}

// One clock instead of a hook on every widget: it also sees undo, loaded files, reroutes and other extensions' changes.
function lookAtAll() {
  if (document.hidden) return;
  for (const [node, state] of watched) if (node.graph) look(node, state);
}

function watch(node) {
  const { name, ...heights } = PANELS[node.comfyClass];
  const state = { panel: addPanel(node, name, heights), seen: null, asked: null, ran: null };
  watched.set(node, state);
  const { onExecuted, onRemoved } = node;
  node.onExecuted = function (message) {
    onExecuted?.apply(this, arguments);
    state.ran = message;
    state.asked = null; // ask again: there are more images now
  };
  node.onRemoved = function () {
    onRemoved?.apply(this, arguments);
    watched.delete(node);
  };
  const [width, height] = node.computeSize();
  node.setSize([Math.max(width, 360), height]);
}

function countUp(node) {
  // Older frontends start every such control at "randomize", which would make the same batch twice and skip others.
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
