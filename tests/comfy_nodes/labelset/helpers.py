"""A labelled folder of tiny images, and what is in it."""

import json

from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name


def make_record(index=0, label="bat", plan_id="0123456789ab"):
    return ImageRecord(
        file_name=image_file_name(label, plan_id, index),
        label=label,
        prompt=f"a photo of a {label}",
        negative_prompt="",
        seed=index,
        index=index,
        plan_id=plan_id,
        settings={"steps": 20},
    )


def add_images(root, count=3, labels=("bat", "cat")):
    folder = LabelledFolder(root)
    folder.scan()
    for index in range(count):
        record = make_record(index, labels[index % len(labels)])
        folder.add(record, encode_image(Image.new("RGB", (8, 8), (index, 0, 0)), record))
    return folder


def make_items(count, colour="red"):
    records = [make_record(index, ("bat", "cat")[index % 2]) for index in range(count)]
    return [(record, encode_image(Image.new("RGB", (8, 8), colour), record)) for record in records]


def metadata(root):
    return [
        json.loads(line)
        for line in (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
