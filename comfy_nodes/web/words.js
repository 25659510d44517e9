// The extension's texts in the language that ComfyUI is set to. The frontend translates nodes from
// locales/, but offers extensions no such function.
import { app } from "../../scripts/app.js";
import zh from "./zh.js";

const LANGUAGES = { zh };

/**
 * A text, which is written here in English, in the frontend's language; in English if there is no
 * translation. `{name}` becomes values.name.
 */
export function t(text, values = {}) {
  const language = app.extensionManager?.setting?.get("Comfy.Locale");
  const said = LANGUAGES[language]?.[text] ?? text;
  return said.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** `one` if `count` is 1, otherwise `many`, in the frontend's language. */
export const counted = (count, one, many) => t(count === 1 ? one : many, { count });
