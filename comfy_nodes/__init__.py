"""SynthGrid's ComfyUI node pack.

    plan/      which images to make, known before the first one is made
    banks/     contexts, styles and definitions that vary prompts
    language/  what language models and WordNet say about class names
    labelset/  the labelled folder: images in class folders, each with its record
    graph/     what a queued graph says about how its images are made
    nodes/     the nodes themselves
    server/    what the browser extension in web/ asks ComfyUI's server

All but the last three are plain Python that the client and the trainer share.
"""

from .graph import queued
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from .server import panel, routes

WEB_DIRECTORY = "./web"

queued.register()
routes.register()
panel.register()

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
