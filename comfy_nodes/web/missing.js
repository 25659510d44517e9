// "Queue what is missing": queues each batch of which the folder lacks an image, and no other.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { BATCHER, missingRequestFor } from "./request.js";
import { t } from "./words.js";

/** Something that keeps batches from being queued, as a sentence for the artist. */
class Refused extends Error {}

/**
 * Queues the missing batches of a batcher and returns what was queued, as a sentence. `say(text)`
 * is called meanwhile. The graph itself stays as it is; only what is queued has another batch_index,
 * and the folder as resume_folder, so that a batch queued twice is made once. With `tryOne` true or
 * false, it is the first image of every class that counts, or all, whatever the node says.
 */
export async function queueMissing(node, say, tryOne) {
  try {
    return await queueAll(node, say, tryOne);
  } catch (error) {
    if (error instanceof Refused) return error.message;
    throw error;
  }
}

async function queueAll(node, say, tryOne) {
  const { request, problem } = missingRequestFor(node, app.rootGraph ?? app.graph, tryOne);
  if (problem) throw new Refused(problem);
  const asked = await post(request);
  const { batches, unfinished, images, missing, folder } = asked;
  const tries = Boolean(request.batcher.try_one_of_each);
  const rest = (said) => {
    if (tryOne !== undefined) return said; // it was not the switch of the node that asked for one
    const advice = t("If you like them, turn try_one_of_each off and press again for the rest.");
    return `${said} ${advice}`;
  };
  if (!batches.length) {
    const values = { images, folder };
    return tries
      ? rest(t("One image of each of the {images} classes exists in '{folder}'.", values))
      : t("Nothing is missing: all {images} images exist in '{folder}'.", values);
  }
  const prompt = await app.graphToPrompt();
  const id = idIn(prompt.output, node);
  for (const [done, batch] of batches.entries()) {
    say(t("Queueing {next} of {all} ...", { next: done + 1, all: batches.length }));
    try {
      await api.queuePrompt(0, forBatch(prompt, id, { batch, folder, tries }));
    } catch (error) {
      const values = { done, all: batches.length, reason: reasonOf(error) };
      throw new Refused(t("{done} of {all} batches were queued. Then: {reason}", values));
    }
  }
  const queued = batches.length;
  const words = t("Queued {queued} of {unfinished} unfinished batches", { queued, unfinished });
  if (queued < unfinished) return t("{words}. Press again when they are done.", { words });
  const values = { words, missing, images, folder };
  return tries
    ? rest(t("{words}: one image of each class, {missing} of {images} to make.", values))
    : t("{words}: {missing} of {images} images are missing in '{folder}'.", values);
}

async function post(request) {
  let answer;
  try {
    const body = JSON.stringify(request);
    answer = await (await api.fetchApi("/synthgrid/missing", { method: "POST", body })).json();
  } catch {
    throw new Refused(t("Nothing was queued: ComfyUI does not respond."));
  }
  if (answer.error) throw new Refused(t("Nothing was queued: {reason}", { reason: answer.error }));
  return answer;
}

/** The batcher's id in a queued graph; inside subgraphs it is "3:12". */
function idIn(output, node) {
  const ids = Object.keys(output).filter(
    (id) => id.split(":").at(-1) === String(node.id) && output[id].class_type === BATCHER,
  );
  if (ids.length === 1) return ids[0];
  throw new Refused(
    ids.length
      ? t("Nothing was queued: several subgraphs use this batcher; keep one.")
      : t("Nothing was queued: the batcher is muted or bypassed, or feeds no saver."),
  );
}

function forBatch(prompt, id, { batch, folder, tries }) {
  const inputs = { ...prompt.output[id].inputs, try_one_of_each: tries };
  Object.assign(inputs, { batch_index: batch, resume_folder: folder, only: "" });
  return { ...prompt, output: { ...prompt.output, [id]: { ...prompt.output[id], inputs } } };
}

/** ComfyUI's reason for refusing a prompt: what a node says, otherwise the general message. */
function reasonOf(error) {
  const answer = error.response ?? {};
  const [node] = Object.values(answer.node_errors ?? {});
  const [problem] = node?.errors ?? [];
  if (problem) return `${node.class_type}: ${problem.details || problem.message}`;
  return answer.error?.message ?? error.message ?? String(error);
}
