"""What the browser extension asks the server: what a plan would make, and what of it is missing.

POST /synthgrid/preview and POST /synthgrid/missing answer from the widget values alone and run
nothing. They use the same GenerationPlan as the nodes, so that the browser needs no plan logic of
its own. The routes are registered only inside ComfyUI.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sized
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from .. import paths
from ..errors import PlanError, SynthGridError
from ..nodes.batcher import TRY_ONE, one_of_each
from ..nodes.captions import CaptionsNode
from ..nodes.prompts import BANKS, ClassList, PromptTemplatesNode
from ..nodes.subfolders import images_below
from ..plan import (
    MAX_SEED,
    MOST_PER_BATCH,
    MOST_PER_CLASS,
    MOST_PER_PROMPT,
    GenerationPlan,
    PromptTemplates,
)
from ..plan.caption_plan import AnyPlan, CaptionPlan, CaptionPrompts, plan_of
from ..plan.captions import Captions
from ..plan.classes import ClassEntry
from ..plan.strengths import parse_strengths

PATH = "/synthgrid/preview"
MISSING_PATH = "/synthgrid/missing"
LARGEST_BODY = 4 * 2**20  # bytes
# The inputs of Prompt Templates that an older copy of the extension does not send.
LATER_TEXTS = (
    *(f"{name}_file" for name in BANKS),
    "wildcards",
    "wildcards_folder",
    "bank",
    "bank_file",
)
MOST_ROWS = 16  # how many prompts of the next batch are sent; the node shows no more
MOST_CLASSES = 16  # of how many classes the entries in a bank are sent
MOST_BATCHES = 1000  # how many batches one press queues: ComfyUI keeps every queued graph in memory


def register() -> None:
    """Adds the routes to ComfyUI's server, if there is one and no other copy of the pack has."""
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    routes = getattr(getattr(prompt_server, "instance", None), "routes", None)
    if routes is None or any(getattr(route, "path", "") == PATH for route in routes):
        return
    routes.post(PATH)(answering(preview))
    routes.post(MISSING_PATH)(answering(missing))


def answering(
    function: Callable[[Any], dict[str, Any]], *, changes: bool = False
) -> Callable[[Any], Any]:
    """An aiohttp handler: the body, as JSON, to the function, and its answer as JSON.

    Where the function `changes` something, other pages that are open in the browser are refused.
    """
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        if changes and (problem := _foreign(request.headers, request.content_type)):
            return web.json_response({"error": problem}, status=403)
        body = bytearray()
        async for chunk in request.content.iter_chunked(2**16):
            body += chunk
            if len(body) > LARGEST_BODY:
                return web.json_response({"error": "the widget values are too long"}, status=413)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return web.json_response({"error": "the body is not JSON"}, status=400)
        # In a thread: a class list on a slow disk must not hold up the server.
        return web.json_response(await asyncio.to_thread(function, asked))

    return answer


def _foreign(headers: Mapping[str, str], content_type: str) -> str:
    """Why a request may come from another site's page; "" if it does not.

    A page elsewhere cannot send JSON without asking first, and browsers name the page's origin.
    """
    if content_type != "application/json":
        return "the body must be sent as application/json"
    origin = headers.get("Origin", "")
    if origin and urlsplit(origin).netloc != headers.get("Host", ""):
        return "the request comes from a page of another site"
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from a page of another site"
    return ""


def preview(asked: Any) -> dict[str, Any]:
    """What the plan would make, from the widget values in the browser.

    `asked` has an object of widget values for each node, and optionally the saver's folder:

        {"classes": {"classes", "path"},
         "templates": {"templates", "negative_prompt", "contexts", "styles",
                       optionally "templates_file", "contexts_file", "styles_file",
                       "wildcards", "wildcards_folder", "bank", "bank_file"},
         "batcher": {"images_per_class", "batch_size", "plan_seed", "batch_index",
                     optionally "resume_folder", "images_per_prompt", "try_one_of_each",
                     "strengths"},
         "folder": optional}

    or, in place of classes and templates, {"captions": {"captions", "path", "label",
    "negative_prompt", optionally "part"}}.

    The answer has counts, with captions also "captions" and "images_per_prompt", and in "rows" the
    first rows of the next batch, none past the last batch. With a resume folder only missing rows
    are listed; "batch_existing" is how many images of the batch exist, and "missing" how many of
    the plan do not. With a "folder", "done" is {label: existing images of this plan}, and with
    captions "planned" how many there should be. With "try_one_of_each", all of it is about the
    first image of every class or caption, and "whole" is how many images the plan has. With a bank,
    "bank" says what it has (`_bank_counts`). If something is wrong, the answer is
    {"error": sentence}.
    """
    return or_error(_preview, asked)


def or_error(function: Callable[[Any], dict[str, Any]], asked: Any) -> dict[str, Any]:
    try:
        return function(asked)
    except SynthGridError as error:
        return {"error": str(error)}
    except (OSError, ValueError) as error:  # a half-typed path that the file system refuses
        return {"error": f"cannot read the class list or the folder: {error}"}


def _preview(asked: Any) -> dict[str, Any]:
    whole, batch_size, batch_index = _whole_plan(asked)
    plan = one_of_each(whole) if _tries(asked) else whole
    batches = plan.batch_count(batch_size)
    if _tries(asked):  # as the node does
        batch_index %= batches
    rows = plan.batch(batch_index, batch_size) if batch_index < batches else ()
    resume_folder = text_of(part_of(asked, "batcher"), "resume_folder", "").strip()
    if _tries(asked) and asked.get("folder") is not None:
        resume_folder = resume_folder or text_of(asked, "folder").strip()
    existing: set[int] = set()
    if resume_folder:
        existing = existing_images(plan, resume_folder)
    left = [row for row in rows if row.index not in existing]
    answer = {
        "classes": len(plan.labels),
        **_amounts(plan),
        "images": len(plan),
        "batch_size": batch_size,
        "batches": batches,
        "batch_index": batch_index,
        "batch_images": len(left),
        "rows": [{"label": row.label, "prompt": row.prompt} for row in left[:MOST_ROWS]],
    }
    if _tries(asked):
        answer["whole"] = len(whole)
    if resume_folder:
        answer |= {
            "resume_folder": resume_folder,
            "batch_existing": len(rows) - len(left),
            "missing": len(plan) - len(existing),
        }
    if isinstance(plan, GenerationPlan) and _has_bank(asked):
        answer["bank"] = _bank_counts(plan)
    if asked.get("folder") is None:
        return answer
    folder = text_of(asked, "folder")
    planned = {"planned": plan.counts()} if isinstance(plan, CaptionPlan) else {}
    return answer | {"folder": folder.strip(), "done": _done(plan, folder)} | planned


def _amounts(plan: AnyPlan) -> dict[str, int]:
    if isinstance(plan, CaptionPlan):
        return {"captions": plan.captions.total, "images_per_prompt": plan.images_per_caption}
    return {"images_per_class": plan.images_per_class}


def _has_bank(asked: Any) -> bool:
    templates = part_of(asked, "templates")
    return any(text_of(templates, name, "").strip() for name in ("bank", "bank_file"))


def _bank_counts(plan: GenerationPlan) -> dict[str, Any]:
    """How many entries the plan's classes have of their own, and how many all share.

    {"shared": {"contexts": n, "styles": n}, "others": classes without entries of their own,
    "own": number of classes with some, "classes": {label: {"definition": bool, "contexts": n,
    "styles": n}} for the first MOST_CLASSES of those}
    """
    own = dict(plan.templates.per_class)
    listed = [entry.name for entry in plan.classes if entry.name in own]
    return {
        "shared": _counts(plan.templates.contexts, plan.templates.styles),
        "own": len(listed),
        "others": len(plan.classes) - len(listed),
        "classes": {
            name: {"definition": bool(own[name].definition)}
            | _counts(own[name].contexts, own[name].styles)
            for name in listed[:MOST_CLASSES]
        },
    }


def _counts(contexts: Sized, styles: Sized) -> dict[str, int]:
    return {"contexts": len(contexts), "styles": len(styles)}


def missing(asked: Any) -> dict[str, Any]:
    """Which batches of a plan lack an image in a folder; `asked` as for `preview`.

    The folder is the batcher's resume folder if it has one, otherwise "folder". The answer has
    "images" and "missing", numbers of images; "batches", the indices of the first MOST_BATCHES
    unfinished batches; and "unfinished", how many there are. Or it is {"error": sentence}.
    """
    return or_error(_missing, asked)


def _missing(asked: Any) -> dict[str, Any]:
    plan, batch_size, _ = asked_plan(asked)
    folder = text_of(part_of(asked, "batcher"), "resume_folder", "").strip()
    folder = folder or text_of(asked, "folder").strip()
    existing = existing_images(plan, folder)
    made = Counter(index // batch_size for index in existing)
    last = plan.batch_count(batch_size) - 1
    complete = {
        batch
        for batch, images in made.items()
        if images == (len(plan) - last * batch_size if batch == last else batch_size)
    }
    unfinished = (batch for batch in range(last + 1) if batch not in complete)
    return {
        "folder": folder,
        "images": len(plan),
        "missing": len(plan) - len(existing),
        "batches": list(islice(unfinished, MOST_BATCHES)),
        "unfinished": last + 1 - len(complete),
    }


def existing_images(plan: AnyPlan, folder: str) -> set[int]:
    """The plan's images anywhere below a folder of the output folder."""
    found = images_below(paths.folder_in_output(folder), plan.plan_id)
    return {index for index in found if index < len(plan)}


def asked_plan(asked: Any) -> tuple[AnyPlan, int, int]:
    """(plan, batch size, batch index) from widget values, read by the nodes themselves. While one
    of each is tried, the plan has the first images alone."""
    plan, batch_size, batch_index = _whole_plan(asked)
    return one_of_each(plan) if _tries(asked) else plan, batch_size, batch_index


def _whole_plan(asked: Any) -> tuple[AnyPlan, int, int]:
    entries, texts = _sources(asked)
    batcher = part_of(asked, "batcher")
    plan = plan_of(
        entries,
        texts,
        _number(batcher, "images_per_class", most=MOST_PER_CLASS),
        _number(batcher, "plan_seed"),
        _number(
            {"images_per_prompt": 1} | dict(batcher), "images_per_prompt", most=MOST_PER_PROMPT
        ),
        parse_strengths(text_of(batcher, "strengths", "")),
    )
    return (
        plan,
        _number(batcher, "batch_size", most=MOST_PER_BATCH),
        _number(batcher, "batch_index"),
    )


def _sources(
    asked: Any,
) -> tuple[tuple[ClassEntry, ...] | Captions, PromptTemplates | CaptionPrompts]:
    """What the nodes before the batcher would hand it."""
    if isinstance(asked, Mapping) and "captions" in asked:
        captions, names = part_of(asked, "captions"), CaptionsNode.INPUT_TYPES()
        return CaptionsNode().read(
            **{name: text_of(captions, name) for name in names["required"]},
            **{name: text_of(captions, name, "") for name in names["optional"]},
        )
    classes, templates = part_of(asked, "classes"), part_of(asked, "templates")
    (entries,) = ClassList().read(text_of(classes, "classes"), text_of(classes, "path"))
    (texts,) = PromptTemplatesNode().read(
        **{
            name: text_of(templates, name)
            for name in ("templates", "negative_prompt", "contexts", "styles")
        },
        **{name: text_of(templates, name, "") for name in LATER_TEXTS},
    )
    return entries, texts


def _tries(asked: Any) -> bool:
    """Whether only the first image of every class is wanted."""
    value = part_of(asked, "batcher").get(TRY_ONE, False)
    if not isinstance(value, bool):
        raise PlanError(f"{TRY_ONE} must be true or false, not {str(value)[:40]!r}")
    return value


def part_of(asked: Any, name: str) -> Mapping[str, Any]:
    part = asked.get(name) if isinstance(asked, Mapping) else None
    if not isinstance(part, Mapping):
        raise PlanError(f"'{name}' must be an object of widget values")
    return part


def text_of(values: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = values.get(name, default)
    if not isinstance(value, str):
        raise PlanError(f"{name} must be text, not {value!r}")
    return value


def _number(values: Mapping[str, Any], name: str, *, most: int = MAX_SEED) -> int:
    """A whole number within the limits of its widget."""
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise PlanError(f"{name} must be a whole number from 0 to {most}, not {str(value)[:40]!r}")
    return value


def _done(plan: AnyPlan, folder: str) -> dict[str, int]:
    """Label -> existing images of the plan in a folder of the output folder, in class order."""
    counts = Counter(plan.label_of(index) for index in existing_images(plan, folder))
    return {label: counts[label] for label in plan.labels}
