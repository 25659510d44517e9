// Turns the graph into the question for the server: current widget values, never results.
// There is no plan logic here.

export const CLASS_LIST = "SynthGridClassList";
export const TEMPLATES = "SynthGridPromptTemplates";
export const BATCHER = "SynthGridClassPromptBatcher";
export const SAVER = "SynthGridLabelledImageSaver";
const REAL_IMAGES = "SynthGridRealImageLatent"; // passes the batch on

const WIDGETS = {
  [CLASS_LIST]: ["classes", "path"],
  [TEMPLATES]: [
    "templates",
    "negative_prompt",
    "contexts",
    "styles",
    "templates_file",
    "contexts_file",
    "styles_file",
  ],
  [BATCHER]: ["images_per_class", "batch_size", "plan_seed", "batch_index", "resume_folder"],
};
const TITLES = {
  [CLASS_LIST]: "SynthGrid Class List",
  [TEMPLATES]: "SynthGrid Prompt Templates",
  [BATCHER]: "SynthGrid Class-Prompt Batcher",
};

/** A question that cannot be asked, as a sentence for the artist. */
class Unanswerable extends Error {}

function slotOf(node, name) {
  return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

/** The node that feeds an input, through reroutes; null if nothing does. */
function sourceOf(node, name) {
  const slot = slotOf(node, name);
  let source = slot < 0 ? null : node.getInputNode(slot);
  for (let hops = 0; source?.type === "Reroute" && hops < 50; hops++) {
    source = source.getInputNode(0);
  }
  return source ?? null;
}

function isLinked(node, name) {
  const slot = slotOf(node, name);
  return slot >= 0 && node.isInputConnected(slot);
}

function valueOf(node, name) {
  if (!isLinked(node, name)) return node.widgets?.find((widget) => widget.name === name)?.value;
  const source = sourceOf(node, name);
  if (source?.type === "PrimitiveNode") return source.widgets?.[0]?.value;
  const reason = `'${name}' comes from another node and is only known when that node runs`;
  throw new Unanswerable(`No preview: ${reason}.`);
}

function valuesOf(node) {
  return Object.fromEntries(WIDGETS[node.comfyClass].map((name) => [name, valueOf(node, name)]));
}

function linked(node, name, kind) {
  if (!isLinked(node, name)) throw new Unanswerable(`Connect ${TITLES[kind]} to '${name}'.`);
  let source = sourceOf(node, name);
  if (source?.comfyClass === REAL_IMAGES && kind === BATCHER) source = sourceOf(source, "batch");
  if (source?.comfyClass === kind) return source;
  throw new Unanswerable(`No preview: '${name}' does not come straight from ${TITLES[kind]}.`);
}

function batcherRequest(node) {
  return {
    classes: valuesOf(linked(node, "classes", CLASS_LIST)),
    templates: valuesOf(linked(node, "templates", TEMPLATES)),
    batcher: valuesOf(node),
  };
}

/** {request}, to post to the server for a batcher or a saver, or {problem}, to show instead. */
export function requestFor(node) {
  try {
    if (node.comfyClass === BATCHER) return { request: batcherRequest(node) };
    const batcher = linked(node, "batch", BATCHER);
    return { request: { ...batcherRequest(batcher), folder: valueOf(node, "folder") } };
  } catch (error) {
    if (error instanceof Unanswerable) return { problem: error.message };
    throw error;
  }
}
