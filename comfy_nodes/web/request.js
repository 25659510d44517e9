// Turns the graph into the question for the server: current widget values, never results.
// There is no plan logic here.
import { placesOf, slotOf, sourceOf, targetsOf } from "./walk.js";
import { t } from "./words.js";

export const CLASS_LIST = "SynthGridClassList";
export const TEMPLATES = "SynthGridPromptTemplates";
export const CAPTIONS = "SynthGridCaptions"; // both of the above in one
export const BATCHER = "SynthGridClassPromptBatcher";
export const SAVER = "SynthGridLabelledImageSaver";
const REAL_IMAGES = "SynthGridRealImageLatent"; // passes the batch on
const REAL_IMAGES_BATCH = 1; // the output that does

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
    "wildcards",
    "wildcards_folder",
    "bank",
    "bank_file",
  ],
  [CAPTIONS]: ["captions", "path", "label", "negative_prompt", "part"],
  [BATCHER]: [
    "images_per_class",
    "batch_size",
    "plan_seed",
    "batch_index",
    "resume_folder",
    "images_per_prompt",
    "try_one_of_each",
    "strengths",
  ],
};
const TITLES = {
  [CLASS_LIST]: "SynthGrid Class List",
  [TEMPLATES]: "SynthGrid Prompt Templates",
  [CAPTIONS]: "SynthGrid Captions",
  [BATCHER]: "SynthGrid Class-Prompt Batcher",
  [SAVER]: "SynthGrid Labelled Image Saver",
};

/** A question that cannot be asked, as a sentence for the artist. */
class Unanswerable extends Error {}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)?.value;

function isLinked({ node }, name) {
  const slot = slotOf(node, name);
  return slot >= 0 && node.inputs[slot].link != null;
}

function valueOf(place, name) {
  if (!isLinked(place, name)) return widgetOf(place.node, name);
  const source = sourceOf(place, name);
  // Older frontends call the host's widget otherwise, "2: classes", and keep both values equal.
  if (source?.host) return widgetOf(source.host, source.name) ?? widgetOf(place.node, name);
  if (source?.node.type.startsWith("Primitive")) return source.node.widgets?.[0]?.value;
  const why = "No preview: '{name}' comes from another node and is only known when that node runs.";
  throw new Unanswerable(t(why, { name }));
}

function valuesOf(place) {
  return Object.fromEntries(
    WIDGETS[place.node.comfyClass].map((name) => [name, valueOf(place, name)]),
  );
}

function linked(place, name, kind) {
  let source = isLinked(place, name) ? sourceOf(place, name) : null;
  const values = { title: t(TITLES[kind]), name };
  if (!source || source.host) throw new Unanswerable(t("Connect {title} to '{name}'.", values));
  if (source.node.comfyClass === REAL_IMAGES && kind === BATCHER) source = sourceOf(source, "batch");
  if (source?.node?.comfyClass === kind) return source;
  throw new Unanswerable(t("No preview: '{name}' does not come straight from {title}.", values));
}

function takesCaptions(place) {
  return sourceOf(place, "classes")?.node?.comfyClass === CAPTIONS;
}

function captionsOf(place) {
  const captions = linked(place, "classes", CAPTIONS);
  if (linked(place, "templates", CAPTIONS).node === captions.node) return captions;
  throw new Unanswerable(
    t("No preview: 'classes' and 'templates' come from different captions."),
  );
}

function batcherRequest(place) {
  if (takesCaptions(place)) {
    return { captions: valuesOf(captionsOf(place)), batcher: valuesOf(place) };
  }
  return {
    classes: valuesOf(linked(place, "classes", CLASS_LIST)),
    templates: valuesOf(linked(place, "templates", TEMPLATES)),
    batcher: valuesOf(place),
  };
}

/** The same question about all images, also while one of each class is tried. */
function wholePlan(asked) {
  return { ...asked, batcher: { ...asked.batcher, try_one_of_each: false } };
}

function saversOf(place) {
  return targetsOf(place, place.node.comfyClass === REAL_IMAGES ? REAL_IMAGES_BATCH : 0).flatMap(
    (target) => {
      if (target.node.comfyClass === REAL_IMAGES) return saversOf(target);
      return target.node.comfyClass === SAVER ? [target] : [];
    },
  );
}

/** The folder that the images of a batcher go to: its resume_folder, or that of its saver. */
function folderOf(place, resumeFolder) {
  if (resumeFolder?.trim()) return resumeFolder;
  const folders = [...new Set(saversOf(place).map((saver) => valueOf(saver, "folder")))];
  if (folders.length === 1) return folders[0];
  throw new Unanswerable(
    folders.length
      ? t("The savers of this batcher have several folders: write one of them into resume_folder.")
      : t("Connect {title} to '{name}'.", { title: t(TITLES[SAVER]), name: "batch" }),
  );
}

function placeOf(node, root) {
  const [place] = placesOf(node, root);
  if (!place) throw new Unanswerable(t("This node is not part of the workflow."));
  return place;
}

function orProblem(ask) {
  try {
    return { request: ask() };
  } catch (error) {
    if (error instanceof Unanswerable) return { problem: error.message };
    throw error;
  }
}

/** {request}, to post to the server for a batcher or a saver, or {problem}, to show instead. */
export function requestFor(node, root) {
  return orProblem(() => {
    const place = placeOf(node, root);
    if (node.comfyClass === SAVER) {
      const batcher = linked(place, "batch", BATCHER);
      return { ...wholePlan(batcherRequest(batcher)), folder: valueOf(place, "folder") };
    }
    const asked = batcherRequest(place);
    const { request: folder } = orProblem(() => folderOf(place, asked.batcher.resume_folder));
    return folder === undefined ? asked : { ...asked, folder };
  });
}

/**
 * As requestFor, for a batcher; the folder has to be known. With `tryOne` true or false, the
 * question is about the first image of every class or about all, whatever the node says.
 */
export function missingRequestFor(node, root, tryOne) {
  return orProblem(() => {
    const place = placeOf(node, root);
    const asked = batcherRequest(place);
    if (tryOne !== undefined) asked.batcher.try_one_of_each = tryOne;
    return { ...asked, folder: folderOf(place, asked.batcher.resume_folder) };
  });
}
