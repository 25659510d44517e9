// Draws the pictures of the panel in the sidebar. Everything that a user has written is set as
// text, never as HTML.
import { t } from "./words.js";

export function made(name, properties = {}, style = {}) {
  const element = Object.assign(document.createElement(name), properties);
  Object.assign(element.style, style);
  return element;
}

export function button(text, press) {
  const element = made("button", { type: "button", textContent: text }, { font: "inherit" });
  Object.assign(element.style, { padding: "2px 8px", cursor: "pointer" });
  element.addEventListener("click", press);
  return element;
}

/** Fills `element` with the server's answer; pictures that were drawn before are kept. */
export function drawn(element, answer, panel, does) {
  const before = panel.figures;
  panel.figures = new Map();
  const keep = (key, draw) => {
    const figure = before.get(key) ?? draw();
    panel.figures.set(key, figure);
    return figure;
  };
  const parts = answer.classes.map((each) => classOf(each, panel, does, keep));
  if (panel.start || answer.hidden_classes) parts.push(pages(answer, panel, does));
  if (answer.all_rejected) parts.push(rejectedOf(answer, does, keep));
  element.replaceChildren(...parts);
}

function grid(figures) {
  const element = made("div", {}, { display: "grid", gap: "4px", margin: "2px 0 8px" });
  element.style.gridTemplateColumns = "repeat(auto-fill, minmax(72px, 1fr))";
  element.append(...figures);
  return element;
}

function classOf({ label, planned, made: count, images, hidden }, panel, does, keep) {
  const element = made("section");
  const head = made("div", {}, { display: "flex", gap: "8px", alignItems: "baseline" });
  const name = made("span", { textContent: label }, { fontWeight: "bold", overflow: "hidden" });
  const text = t("{count} of {planned}", { count, planned });
  head.append(name, made("span", { textContent: text }, { opacity: "0.75", flex: "none" }));
  if (hidden || panel.opened === label) {
    const words = hidden ? t("Show {hidden} more", { hidden }) : t("Show fewer");
    head.append(button(words, () => does.toggle(label)));
  }
  const figures = images.map((image) => {
    const { folder, file_name, sha256, scores, reason } = image;
    const key = JSON.stringify([folder, file_name, sha256, scores, reason]);
    return keep(key, () => picture(image, label, does));
  });
  element.append(head, grid(figures));
  return element;
}

function picture(image, label, does) {
  const { folder, file_name, sha256, prompt, scores = {}, reason } = image;
  const element = made("figure", {}, { margin: "0", position: "relative" });
  const set = made("button", { type: "button" }, { padding: "0", border: "2px solid transparent" });
  Object.assign(set.style, { background: "none", cursor: "pointer", width: "100%" });
  if (reason) set.style.borderColor = "#e8b339";
  const said = Object.entries(scores).map(([name, score]) => `${name} ${Number(score.toFixed(3))}`);
  const doubt = reason ? [t("The check would reject it: {reason}", { reason })] : [];
  set.title = [prompt, ...doubt, ...said, t("Click to set it aside.")].join("\n");
  set.setAttribute("aria-label", t("Set aside: {label}, {prompt}", { label, prompt }));
  set.append(thumbnail(does.viewOf(folder, file_name, { hash: sha256 }), prompt));
  set.addEventListener("click", async () => {
    if (set.disabled) return;
    set.disabled = true;
    element.style.opacity = "0.3";
    if (await does.reject(image, label)) return;
    set.disabled = false;
    element.style.opacity = "";
  });
  const whole = does.viewOf(folder, file_name, { whole: true, hash: sha256 });
  const link = made("a", { href: whole, target: "_blank", rel: "noopener", textContent: "\u2197" });
  Object.assign(link, { title: t("Open the picture in full") });
  Object.assign(link.style, { position: "absolute", top: "2px", right: "2px", padding: "0 4px" });
  Object.assign(link.style, { background: "#000a", color: "#fff", textDecoration: "none" });
  element.append(set, link);
  if (reason) element.append(made("figcaption", { textContent: t("doubtful") }));
  return element;
}

function thumbnail(src, alt) {
  const style = { display: "block", width: "100%", aspectRatio: "1", objectFit: "contain" };
  return made("img", { src, alt, loading: "lazy", draggable: false }, style);
}

function rejectedOf({ rejected, all_rejected: all }, does, keep) {
  const element = made("section");
  const latest = rejected.length;
  const text =
    all > latest
      ? t("Set aside: the latest {latest} of {all}", { latest, all })
      : t("Set aside: {all}", { all });
  const head = made("div", { textContent: text }, { fontWeight: "bold" });
  const figures = rejected.map((image) =>
    keep(JSON.stringify([image.folder, image.file_name]), () => rejectedPicture(image, does)),
  );
  element.append(head, grid(figures));
  return element;
}

function rejectedPicture(image, does) {
  const { folder, file_name, label, reason, check } = image;
  const element = made("figure", {}, { margin: "0", overflow: "hidden" });
  element.title = `${label}: ${reason}${check === "panel" ? "" : ` (${check})`}`;
  element.append(thumbnail(does.viewOf(`${folder}.quarantine`, file_name), label));
  const caption = made("figcaption", { textContent: label });
  Object.assign(caption.style, { overflow: "hidden", textOverflow: "ellipsis" });
  element.append(caption, button(t("Put back"), () => does.restore(image)));
  return element;
}

function pages({ classes, hidden_classes: hidden }, panel, does) {
  const element = made("div", {}, { display: "flex", gap: "6px", margin: "4px 0" });
  const size = 50; // as the server lists them
  if (panel.start) element.append(button(t("Earlier classes"), () => does.turn(-size)));
  if (hidden) {
    const words = t("{hidden} more classes", { hidden });
    element.append(button(words, () => does.turn(classes.length)));
  }
  return element;
}
