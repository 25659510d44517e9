"""GET /view and POST /upload/image.

Covers: client.embedded.api.files.
"""

from __future__ import annotations

import io
import json
import uuid
from typing import Any

import pytest
from PIL import Image


def picture(colour: tuple[int, int, int] = (1, 2, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def upload(server, name: str, data: bytes, **form: str) -> Any:
    return server.post("/upload/image", files={"image": (name, data, "image/png")}, data=form)


def save(
    server, prefix: str, *, batch: int = 1, colour: int = 0x0A0B0C, **more: Any
) -> dict[str, Any]:
    """What SaveImage reports."""
    size = {"width": 16, "height": 8, "batch_size": batch, "color": colour}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }
    return server.run(prompt, **more)


def test_a_saved_image_is_viewed_with_its_pixels_and_its_graph(server):
    prefix = f"contract/{uuid.uuid4().hex}"
    entry = save(server, prefix, batch=2, extra_data={"extra_pnginfo": {"workflow": {"nodes": []}}})
    images = entry["outputs"]["2"]["images"]
    name = prefix.partition("/")[2]
    assert images == [
        {"filename": f"{name}_0000{place}_.png", "subfolder": "contract", "type": "output"}
        for place in (1, 2)
    ]
    answer = server.get("/view", params=images[0])
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == f'filename="{name}_00001_.png"'
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (16, 8)
    assert image.getpixel((0, 0)) == (0x0A, 0x0B, 0x0C)
    assert json.loads(image.text["prompt"])["2"]["class_type"] == "SaveImage"
    assert json.loads(image.text["workflow"]) == {"nodes": []}


def test_file_names_go_on_counting(server):
    prefix = uuid.uuid4().hex
    save(server, prefix)
    entry = save(server, prefix, colour=1)
    assert entry["outputs"]["2"]["images"] == [
        {"filename": f"{prefix}_00002_.png", "subfolder": "", "type": "output"}
    ]


def test_a_prefix_that_leads_out_of_the_folder_fails(server):
    assert save(server, f"../{uuid.uuid4().hex}")["status"]["status_str"] == "error"


def test_a_preview_goes_to_the_temporary_folder(server):
    prompt = {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 255},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    (image,) = server.run(prompt)["outputs"]["2"]["images"]
    assert image["type"] == "temp"
    assert server.get("/view", params=image).status_code == 200


def test_part_of_a_file_can_be_asked_for(server):
    data = picture()
    name = upload(server, f"{uuid.uuid4().hex}.png", data).json()["name"]
    answer = server.get(
        "/view", params={"filename": name, "type": "input"}, headers={"Range": "bytes=2-5"}
    )
    assert answer.status_code == 206
    assert answer.content == data[2:6]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 404),
        ({"filename": "no-such-file.png"}, 404),
        ({"filename": ""}, 400),
        ({"filename": "../output.png"}, 400),
        ({"filename": "..\\x.png"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "passwd", "subfolder": "../../../../../../etc"}, 403),
        ({"filename": "passwd", "subfolder": "/etc"}, 403),
        ({"filename": "x.png", "type": "models"}, 400),
        ({"filename": "%2e%2e/x.png"}, 404),
    ],
)
def test_nothing_outside_the_folders_is_viewed(server, query, status):
    assert server.get("/view", params=query).status_code == status


def test_an_upload_lands_in_the_input_folder(server):
    name = f"{uuid.uuid4().hex}.png"
    answer = upload(server, name, picture(), subfolder="a/b")
    assert answer.json() == {"name": name, "subfolder": "a/b", "type": "input"}
    viewed = server.get("/view", params={"filename": name, "subfolder": "a/b", "type": "input"})
    assert viewed.content == picture()


def test_equal_content_keeps_its_name_and_other_content_gets_a_number(server):
    stem = uuid.uuid4().hex
    names = [
        upload(server, f"{stem}.png", picture(colour)).json()["name"]
        for colour in [(1, 1, 1), (1, 1, 1), (2, 2, 2)]
    ]
    assert names == [f"{stem}.png", f"{stem}.png", f"{stem} (1).png"]


def test_overwrite_replaces_the_file(server):
    name = f"{uuid.uuid4().hex}.png"
    upload(server, name, picture((1, 1, 1)))
    assert upload(server, name, picture((2, 2, 2)), overwrite="true").json()["name"] == name
    assert server.get("/view", params={"filename": name, "type": "input"}).content == picture(
        (2, 2, 2)
    )


@pytest.mark.parametrize("form", [{"subfolder": "../.."}, {"subfolder": "/tmp"}])
def test_no_upload_leaves_the_folder(server, form):
    assert upload(server, f"{uuid.uuid4().hex}.png", picture(), **form).status_code == 400


def test_a_form_without_a_file_is_refused(server):
    assert (
        server.post("/upload/image", files={"other": ("a.png", b"", "image/png")}).status_code
        == 400
    )
