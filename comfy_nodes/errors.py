"""The root of SynthGrid's exception tree.

    SynthGridError          every mistake that a user can make and correct; its text is one message
    |- PlanError            classes, templates or counts that make no plan      (comfy_nodes.errors)
    |- LabelsetError        a labelled folder that cannot be written or trusted (comfy_nodes.errors)
    |- ClientError ...      servers, workflows, jobs                            (client.errors)
    '- TrainerError ...     data, configuration, runs                           (trainer.errors)

A command line prints the message and exits with code 1; ComfyUI shows it in its error dialog.
"""


class SynthGridError(Exception):
    """A mistake with a known cause. The message names it, what was expected and the next step."""


class PlanError(SynthGridError):
    """Classes, templates, banks or counts from which no plan can be made."""


class LabelsetError(SynthGridError):
    """A labelled folder, class name or image record that cannot be written or trusted."""
