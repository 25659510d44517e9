// Shows on the batcher which batch it made ("batch 3 of 19: badger x4, bat x4") and sees to it that a fresh one counts up.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const BATCHER = "SynthGridClassPromptBatcher";

function showSummary(node, text) {
  let widget = node.widgets.find((each) => each.name === "last run");
  if (!widget) {
    widget = ComfyWidgets.STRING(node, "last run", ["STRING", { multiline: true }], app).widget;
    // An answer, not a setting: neither the saved workflow nor the queued prompt has it.
    widget.serialize = false;
    widget.options.serialize = false;
    if (widget.inputEl) widget.inputEl.readOnly = true;
  }
  widget.value = text;
  node.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "SynthGrid.Batcher",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== BATCHER) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (message) {
      onExecuted?.apply(this, arguments);
      if (message?.text?.length) showSummary(this, message.text[0]);
    };
  },

  nodeCreated(node) {
    if (node.comfyClass !== BATCHER) return;
    // Older frontends start every such control at "randomize", which would make the same batch twice and skip others.
    const control = node.widgets?.find((widget) => widget.name === "control_after_generate");
    if (control) control.value = "increment";
  },
});
