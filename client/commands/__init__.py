"""The client's commands, one per file: `add_parser` declares a command and its handler.

`synthgrid --help` reads only this table; a command's file is imported when the command runs.
"""

from __future__ import annotations

COMMANDS = {
    "bank": "write contexts and styles for each class, by a language model or offline",
    "plan": "show exactly what would be made",
    "run": "make the images that are missing",
    "validate": "check a workflow against a server",
    "adapt": "make a stock Stable Diffusion workflow one of SynthGrid's",
    "convert": "turn a workflow saved in ComfyUI's editor into API format",
    "extend": "make more images per class, with the folder's own workflow and settings",
    "regenerate": "make the images again that a check rejected, with other seeds",
    "verify": "check every image and record of a labelled folder, and repair it",
    "export-data": "write a labelled folder for Hugging Face, as Parquet, tar shards or COCO",
    "status": "show the state of a folder by class and server, also during a run",
    "cancel": "stop the run of a folder and remove its jobs from the servers",
    "serve": "run the embedded engine",
}
