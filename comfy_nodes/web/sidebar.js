// The SynthGrid panel in ComfyUI's sidebar: a plan's images by class, a click to set one aside, and
// a button that makes what is missing. Nothing is asked while the panel is closed.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { button, drawn, made } from "./gallery.js";
import { queueMissing } from "./missing.js";
import { BATCHER, missingRequestFor } from "./request.js";
import { counted, t } from "./words.js";

const LOOK_MS = 1000;
const SOON_MS = 300; // after a batch is saved; several at once are one question
const TIMED_FROM = 2; // batches, before anything is said about the time that is left

// The open panel, or null: {element, parts, node, asked, answer, ...}
let panel = null;

function batchers(graph, found = new Set()) {
  for (const node of graph?.nodes ?? []) {
    if (node.comfyClass === BATCHER) found.add(node);
    if (node.isSubgraphNode?.()) batchers(node.subgraph, found);
  }
  return [...found];
}

const rootGraph = () => app.rootGraph ?? app.graph;

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  try {
    const options = { method: "POST", headers, body: JSON.stringify(body) };
    return await (await api.fetchApi(`/synthgrid/${path}`, options)).json();
  } catch {
    return { error: t("ComfyUI does not respond.") };
  }
}

function open(element) {
  close();
  const content = made("div", {}, { padding: "0 8px 8px", font: "12px/1.5 sans-serif" });
  content.className = "synthgrid-sidebar";
  // It stays in sight, with its Undo, while the sidebar scrolls.
  const top = made("div", {}, { position: "sticky", top: "0", zIndex: "1", padding: "8px 0 4px" });
  top.style.background = "var(--comfy-menu-bg, #171718)";
  const parts = {
    choice: made("select", {}, { width: "100%", font: "inherit" }),
    head: made("div", {}, { fontWeight: "bold" }),
    bar: made("progress", { max: 1, value: 0 }, { width: "100%" }),
    time: made("div", {}, { opacity: "0.75", minHeight: "1.5em" }),
    buttons: made("div", {}, { display: "flex", flexWrap: "wrap", gap: "6px", margin: "4px 0" }),
    said: made("div", {}, { whiteSpace: "pre-wrap", overflowWrap: "anywhere" }),
    reason: made("input", { type: "text", maxLength: 200 }, { width: "100%", font: "inherit" }),
    hint: made("div", {}, { opacity: "0.75" }),
    gallery: made("div"),
  };
  parts.reason.placeholder = t("Reason, if you like: blurred, a cat ...");
  parts.reason.setAttribute("aria-label", t("Why the next picture is set aside"));
  parts.choice.setAttribute("aria-label", t("Batcher"));
  parts.hint.textContent = t("Click a picture to set it aside. It can be put back below.");
  top.append(parts.choice, parts.head, parts.bar, parts.time, parts.buttons);
  top.append(parts.said, parts.reason);
  content.append(top, parts.hint, parts.gallery);
  element.replaceChildren(content);
  panel = { element, parts, node: null, body: null, answer: null, opened: "", start: 0 };
  Object.assign(panel, { stale: true, busy: false, queued: 0, times: [], figures: new Map() });
  const make = (text, tryOne) => button(text, () => queue(tryOne));
  panel.tryIt = make(t("Try one of each class"), true);
  panel.makeIt = make(t("Make what is missing"), false);
  parts.buttons.append(panel.makeIt, panel.tryIt);
  parts.choice.addEventListener("change", () => {
    panel.node = batchers(rootGraph())[parts.choice.selectedIndex];
    panel.start = 0;
    look();
  });
  panel.timer = setInterval(look, LOOK_MS);
  look();
}

function close() {
  if (!panel) return;
  clearInterval(panel.timer);
  clearTimeout(panel.soon);
  panel.element.replaceChildren();
  panel = null;
}

function chooseBatcher() {
  const all = batchers(rootGraph());
  if (!all.includes(panel.node)) [panel.node, panel.start] = [all[0] ?? null, 0];
  const titles = all.map((node) => node.title ?? t("Batcher"));
  const { choice } = panel.parts;
  choice.style.display = all.length > 1 ? "" : "none";
  if (titles.join("\n") !== [...choice.options].map((each) => each.text).join("\n")) {
    choice.replaceChildren(...titles.map((text) => made("option", { textContent: text })));
  }
  choice.selectedIndex = all.indexOf(panel.node);
}

/** Asks the server again if the workflow or the folder may have changed. */
async function look() {
  if (!panel || document.hidden) return;
  chooseBatcher();
  const here = panel;
  if (!here.node) {
    return show({
      error: t("This workflow has no SynthGrid batcher: open one of SynthGrid's templates."),
    });
  }
  const { request, problem } = missingRequestFor(here.node, rootGraph(), false);
  if (problem) return show({ error: problem });
  request.batcher.batch_index = 0; // it counts up with every run and changes nothing here
  const asked = { ...request, open: here.opened, start: here.start };
  const body = JSON.stringify(asked);
  if (here.asking || (body === here.body && !here.stale)) return;
  if (body !== here.body) here.times = []; // another plan has another speed
  Object.assign(here, { body, stale: false, asking: true });
  const answer = await post("folder", asked);
  here.asking = false;
  if (panel === here) show(answer);
}

function soon() {
  panel.stale = true;
  clearTimeout(panel.soon);
  panel.soon = setTimeout(look, SOON_MS);
}

function show(answer) {
  const { parts } = panel;
  panel.answer = answer.error ? null : answer;
  parts.head.textContent = answer.error ?? headOf(answer);
  for (const name of ["bar", "buttons", "said", "reason", "hint", "gallery"]) {
    const shown = name === "buttons" ? "flex" : "";
    parts[name].style.display = answer.error ? "none" : shown;
  }
  if (answer.error) {
    parts.time.textContent = "";
    panel.body = null; // ask again
    return;
  }
  const missing = answer.images - answer.made;
  parts.bar.value = answer.made / answer.images;
  panel.makeIt.textContent = missing
    ? t("Make what is missing ({missing})", { missing })
    : t("Nothing is missing");
  panel.makeIt.disabled = panel.busy || !missing;
  panel.tryIt.disabled = panel.busy || answer.classes.every((each) => each.made > 0);
  showTime();
  drawn(parts.gallery, answer, panel, { reject, restore, toggle, turn, viewOf });
}

function headOf({ made: done, images, folder, others, classes, hidden_classes: hidden }) {
  const count = classes.length + hidden + panel.start;
  const values = { done, images, count, folder };
  const head = t("{done} of {images} pictures of {count} classes are in '{folder}'", values);
  return others ? t("{head}, beside {others} of other prompts or classes", { head, others }) : head;
}

function showTime() {
  const { times, queued, answer, parts } = panel;
  if (!queued || !answer) {
    parts.time.textContent = "";
    return;
  }
  const waiting = counted(queued, "1 batch in the queue", "{count} batches in the queue");
  const [first, last] = [times[0], times.at(-1)];
  const missing = answer.images - answer.made;
  if (times.length < TIMED_FROM || !missing) {
    parts.time.textContent = waiting;
    return;
  }
  // The first batch is not counted: it may have waited for the model to load.
  const pictures = times.slice(1).reduce((sum, each) => sum + each.images, 0);
  const seconds = ((last.at - first.at) / 1000 / pictures) * missing;
  const time = lasting(seconds);
  parts.time.textContent = t("{waiting}; about {time} for all that is missing", { waiting, time });
}

function lasting(seconds) {
  if (seconds < 90) return t("{count} s", { count: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return t("{count} min", { count: Math.round(seconds / 60) });
  return t("{count} h", { count: (seconds / 3600).toFixed(1) });
}

function say(text, undo) {
  if (!panel) return;
  panel.parts.said.replaceChildren(text); // a string is appended as text
  if (undo) panel.parts.said.append(" ", button(t("Undo"), undo));
}

async function queue(tryOne) {
  const here = panel;
  if (here.busy || !here.node) return;
  here.busy = here.makeIt.disabled = here.tryIt.disabled = true;
  try {
    say(await queueMissing(here.node, say, tryOne));
  } catch (error) {
    say(t("Not queued: {reason}", { reason: error.message }));
    throw error;
  } finally {
    here.busy = false;
    if (panel === here) soon();
  }
}

/** Whether the picture has left the folder. */
async function reject(image, label) {
  const here = panel;
  const { folder, file_name, sha256, index } = image;
  const images = [{ file_name, sha256 }];
  const answer = await post("reject", { folder, images, reason: here.parts.reason.value });
  if (panel !== here) return true;
  if (answer.error) say(t("Not set aside: {reason}", { reason: answer.error }));
  else if (!answer.moved) say(t("Not set aside: this picture has changed or has gone."));
  else {
    say(t("Set aside: {label}, now in '{folder}.quarantine'.", { label, folder }), () => {
      const isIt = (each) => each.folder === folder && each.index === index;
      const aside = here.answer?.rejected.find(isIt); // the latest is first
      if (aside) restore(aside);
    });
  }
  soon();
  return Boolean(answer.moved);
}

async function restore({ folder, file_name, label }) {
  const answer = await post("restore", { folder, images: [{ file_name }] });
  if (!panel) return;
  const reason = answer.error;
  say(reason ? t("Not put back: {reason}", { reason }) : t("Put back: {label}.", { label }));
  soon();
}

function toggle(label) {
  panel.opened = panel.opened === label ? "" : label;
  look();
}

function turn(step) {
  panel.start = Math.max(0, panel.start + step);
  look();
}

/** Where the server shows a picture; small: as the browser's preview, not as the file itself. */
function viewOf(folder, fileName, { whole = false, hash = "" } = {}) {
  const parts = `${folder}/${fileName}`.split("/");
  const query = { filename: parts.pop(), subfolder: parts.join("/"), type: "output", hash };
  if (!whole) query.preview = "webp;80";
  return api.apiURL(`/view?${new URLSearchParams(query)}`);
}

function executed({ detail }) {
  const images = detail?.output?.synthgrid_records?.length;
  if (!panel || !images) return;
  panel.times.push({ at: performance.now(), images });
  soon();
}

function status({ detail }) {
  if (!panel) return;
  panel.queued = detail?.exec_info?.queue_remaining ?? 0;
  if (!panel.queued) panel.times = [];
  showTime();
}

app.registerExtension({
  name: "SynthGrid.Panel",

  setup() {
    const manager = app.extensionManager;
    if (!manager?.registerSidebarTab) return; // an older frontend, without a sidebar
    api.addEventListener("executed", executed);
    api.addEventListener("status", status);
    manager.registerSidebarTab({
      id: "synthgrid",
      icon: "pi pi-images",
      title: "SynthGrid",
      tooltip: t("SynthGrid: pictures by class"),
      type: "custom",
      render: open,
      destroy: close,
    });
  },
});
