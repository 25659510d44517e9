// Shows, before anything runs, what a batcher would make, and how many images of each class a saver
// has. The server computes both (comfy_nodes/server/routes.py) from the widgets of the linked nodes.
// Also gives the batcher its button, and makes sure that a new one counts up.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { queueMissing } from "./missing.js";
import { addPanel } from "./panel.js";
import { BATCHER, SAVER, requestFor } from "./request.js";
import { counted, t } from "./words.js";

const BUTTON = "Queue what is missing";
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
// node -> {panel, seen, asked, ran, said}: `ran` is the output of the node's last run, if any;
// `said` is what the button has answered
const watched = new Map();

const total = (done) => Object.values(done).reduce((sum, count) => sum + count, 0);

const imagesOf = (count) => counted(count, "1 image", "{count} images");
const classesOf = (count) => counted(count, "1 class", "{count} classes");

const isFinished = ({ done, images }) => Boolean(done) && total(done) === images;

function amounts({ captions, classes, images_per_class, images_per_prompt }) {
  if (captions) {
    return `${counted(captions, "1 caption", "{count} captions")} x ${images_per_prompt}`;
  }
  return `${classesOf(classes)} x ${images_per_class}`;
}

function sizeOf(answer) {
  const plan = `${amounts(answer)} = ${imagesOf(answer.images)}`;
  const batches = counted(answer.batches, "1 batch", "{count} batches");
  return t("{plan} in {batches}", { plan, batches });
}

function batcherLines(answer, { ran, said }) {
  const lines = [{ kind: "head", text: sizeOf(answer) }];
  if (answer.whole) {
    const { whole } = answer;
    lines.push({ text: t("One of each is tried first; the plan has {whole} images.", { whole }) });
  }
  if (said) lines.push({ text: said });
  const done = answer.done && total(answer.done);
  if (answer.done) {
    const values = { done, images: imagesOf(answer.images), folder: answer.folder };
    lines.push({ text: t("{done} of {images} exist in '{folder}'", values) });
  }
  if (ran) lines.push({ text: t("Last run: {said}", { said: ran.text?.[0] ?? "" }), kind: "dim" });
  if (answer.bank) lines.push(...bankLines(answer.bank));
  if (answer.whole && done === answer.images) return [...lines, tried()];
  if (answer.batch_index >= answer.batches) return [...lines, pastTheEnd(answer, done)];
  lines.push({ text: nextOf(answer) });
  if (answer.batch_images === 0) return lines;
  lines.push(...answer.rows.map((row) => ({ text: `${row.label}: ${row.prompt}` })));
  const hidden = answer.batch_images - answer.rows.length;
  if (hidden > 0) {
    const text = counted(hidden, "and 1 more image", "and {count} more images");
    lines.push({ text, kind: "dim" });
  }
  return lines;
}

function tried() {
  const advice = "If you like them, turn try_one_of_each off, then press '{button}' for the rest.";
  return { text: t(advice, { button: t(BUTTON) }), kind: "warning" };
}

function nextOf({ batch_index: index, batches, batch_images: left, batch_existing: existing }) {
  const next = t("Next: batch {batch} of {batches}", { batch: index + 1, batches });
  if (left === 0) return t("{next}: all of its images exist, nothing will be sampled", { next });
  return existing ? t("{next}, without {existing} existing", { next, existing }) : next;
}

function entriesOf({ definition, contexts, styles }) {
  const entries = [];
  if (definition) entries.push(t("definition"));
  if (contexts) entries.push(counted(contexts, "1 context", "{count} contexts"));
  if (styles) entries.push(counted(styles, "1 style", "{count} styles"));
  return entries.join(", ") || t("nothing");
}

function bankLines({ shared, own, others, classes }) {
  const lines = Object.entries(classes).map(([label, has]) =>
    t("bank, {label}: {entries}", { label, entries: entriesOf(has) }),
  );
  const hidden = own - lines.length;
  if (hidden > 0) {
    lines.push(counted(hidden, "bank: and 1 more class", "bank: and {count} more classes"));
  }
  const all = t("bank, shared where a class has none: {entries}", { entries: entriesOf(shared) });
  const values = { all, classes: classesOf(others) };
  lines.push(others ? t("{all}, also for {classes} without entries", values) : all);
  return lines.map((text) => ({ text, kind: "dim" }));
}

function pastTheEnd(answer, done) {
  if (done === answer.images) return { text: t("The plan is finished.") };
  const values = { index: answer.batch_index, last: answer.batches - 1, button: t(BUTTON) };
  const past = "batch_index {index} is past the last batch, {last}, so Run makes nothing.";
  const next = "Press '{button}', or set batch_index to 0.";
  return { text: `${t(past, values)} ${t(next, values)}`, kind: "warning" };
}

function saverLines(answer, { ran }) {
  const values = { done: total(answer.done), images: imagesOf(answer.images) };
  const head = t("{done} of this plan's {images} exist", values);
  const lines = [{ text: head, kind: "head" }];
  const [summary, ...warnings] = ran?.text ?? [];
  if (summary) lines.push({ text: summary, kind: "dim" });
  lines.push(...warnings.map((text) => ({ text, kind: "warning" })));
  if (ran?.images?.length) lines.push({ figures: figures(ran) });
  for (const [label, count] of Object.entries(answer.done)) {
    const planned = answer.planned?.[label] ?? answer.images_per_class;
    const text = `${label} ${t("{count} of {planned}", { count, planned })}`;
    lines.push({ text, kind: count === planned ? "dim" : undefined });
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
    answer = { error: t("No preview: ComfyUI does not respond.") };
  }
  if (state.asked !== body) return; // a newer question has been sent
  // "Queued ..." is of no use any more once all images exist.
  if (isFinished(answer) && !isFinished(state.answer)) state.said = null;
  state.answer = answer;
  show(node, state);
}

function show(node, state) {
  const { answer, said } = state;
  if (answer.error ?? answer.problem) {
    const { error, problem } = answer;
    const lines = [{ text: error ?? problem, kind: error ? "error" : "dim" }];
    state.panel.show(said ? [...lines, { text: said }] : lines);
  } else {
    state.panel.show(PANELS[node.comfyClass].show(answer, { ran: ranOf(node, state), said }));
  }
}

async function pressed(node, state) {
  if (state.busy) return;
  state.busy = true;
  const say = (text) => {
    state.said = text;
    show(node, state);
  };
  try {
    say(await queueMissing(node, say));
  } catch (error) {
    say(t("Not queued: {reason}", { reason: error.message }));
    throw error;
  } finally {
    state.busy = false;
  }
}

// Neither the saved workflow nor the queued prompt contains a button.
function addButton(node, state) {
  const button = node.addWidget("button", BUTTON, null, () => pressed(node, state), {
    serialize: false,
  });
  button.serialize = false;
  button.label = t(BUTTON);
  button.tooltip = t(
    "Queues each batch of which the saver's folder lacks an image, and no other.",
  );
}

function look(node, state) {
  const { request, problem } = requestFor(node, app.rootGraph ?? app.graph);
  const body = problem ?? JSON.stringify(request);
  const settled = body === state.seen;
  state.seen = body;
  if (!settled || body === state.asked) return;
  if (state.asked !== null && !state.busy) state.said = null; // it was about other values
  if (request) {
    ask(node, state, body);
  } else {
    state.asked = body;
    state.answer = { problem };
    show(node, state);
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
  const state = { panel: null, seen: null, asked: null, ran: null, answer: {}, said: null };
  if (node.comfyClass === BATCHER) addButton(node, state);
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
