"""GET /view and POST /upload/image: files of the output, input and temp folders only."""

from __future__ import annotations

import mimetypes
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import quote

from aiohttp import web

from comfy_nodes.labelset import write_atomically

from .. import runtime
from .bodies import aside

_KINDS = ("output", "input", "temp")
# A browser would run these; they are sent as downloads.
_ACTIVE = {
    "text/html",
    "text/html-sandboxed",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/javascript",
    "text/css",
    "text/xml",
    "application/xml",
}
_UNKNOWN = "application/octet-stream"


def inside(root: Path, name: str) -> Path | None:
    """The path `name` below `root`, links followed; None if it is outside or not a valid path."""
    try:
        root = root.resolve()
        path = (root / name).resolve()
    except (OSError, ValueError):  # too long, or with a null byte
        return None
    return path if path == root or root in path.parents else None


def split_annotation(name: str) -> tuple[str, str | None]:
    """ "cat.png [output]" -> ("cat.png", "output"); without such an ending, (name, None)."""
    for kind in _KINDS:
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 2].rstrip(), kind
    return name, None


async def view(request: web.Request) -> web.StreamResponse:
    """GET /view?filename&subfolder&type: a file, whole or in part (Range)."""
    if "filename" not in request.query:
        return web.Response(status=404)
    filename, kind = split_annotation(request.query["filename"])
    root = runtime.folders().of_kind(kind or request.query.get("type", "output"))
    if not filename or filename.startswith("/") or ".." in filename or root is None:
        return web.Response(status=400)
    folder = inside(root, request.query.get("subfolder", ""))
    if folder is None:
        return web.Response(status=403)
    path = inside(root, str(folder / PurePosixPath(PureWindowsPath(filename).as_posix()).name))
    if path is None or not path.is_file():
        return web.Response(status=404)
    content_type = mimetypes.guess_type(path.name)[0] or _UNKNOWN
    headers = {
        "Content-Disposition": f'filename="{quote(path.name, safe=" ()[]!,;@&=+~")}"',
        "Content-Type": _UNKNOWN if _is_active(content_type) else content_type,
        "X-Content-Type-Options": "nosniff",
    }
    return web.FileResponse(path, headers=headers)


def _is_active(content_type: str) -> bool:
    return content_type in _ACTIVE or content_type.endswith("+xml")


async def upload_image(request: web.Request) -> web.Response:
    """POST /upload/image: form fields image, subfolder, type, overwrite.

    A file with equal content keeps its name.
    """
    form = await request.post()
    image, subfolder, kind = form.get("image"), form.get("subfolder", ""), form.get("type", "input")
    if (
        not isinstance(image, web.FileField)
        or not isinstance(subfolder, str)
        or not isinstance(kind, str)
    ):
        return web.Response(status=400, text="the form needs a file in the field 'image'")
    root = runtime.folders().of_kind(kind)
    folder = None if root is None else inside(root, subfolder)
    if folder is None or not _is_plain_name(image.filename):
        return web.Response(
            status=400, text="the file must lie inside the input, output or temp folder"
        )
    overwrite = form.get("overwrite") in ("true", "1")
    filename, file = image.filename, image.file
    name = await aside(lambda: _store(folder, filename, file.read(), overwrite=overwrite))
    return web.json_response({"name": name, "subfolder": subfolder, "type": kind})


def _is_plain_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set(name) & set('/\\:\0\r\n"')


def _store(folder: Path, name: str, data: bytes, *, overwrite: bool) -> str:
    """Writes the file under its name, or "name (1).png" and so on if another file has it."""
    path, number = folder / name, 0
    while (path.exists() or path.is_symlink()) and not overwrite:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
            return path.name
        number += 1
        path = folder / f"{Path(name).stem} ({number}){Path(name).suffix}"
    write_atomically(path, data)  # takes the place of a link; does not write through it
    return path.name
