"""From a file of captions to a backbone that groups images by caption, on the commands alone."""

import json

import pytest

from synthgrid.__main__ import main

CAPTIONS = ["a handwritten 3", 'the digit "seven", {bold}', "# eight 8 八", "a handwritten 3"]


@pytest.mark.slow
def test_pretraining_groups_the_images_of_captions_by_caption(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from trainer.pretrain.source import read_source

    torch.set_num_threads(1)
    file, out, runs = tmp_path / "captions.txt", tmp_path / "set", tmp_path / "pre"
    file.write_text("\n\n".join(CAPTIONS), encoding="utf-8-sig")
    given = ["sd15_class_prompts", "--server", "embedded", "--captions", str(file)]
    more = ["--per-prompt", "3", "--steps", "2", "--batch-size", "6"]
    assert main(["run", *given, *more, "--out", str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    source = read_source([out])
    assert set(source.captions) == set(CAPTIONS)
    sizes = {
        caption: len(group) for caption, group in zip(source.captions, source.groups, strict=True)
    }
    assert sizes == {CAPTIONS[0]: 6, CAPTIONS[1]: 3, CAPTIONS[2]: 3}
    capsys.readouterr()
    how = ["--model", "cnn", "--positives", "caption", "--per-caption", "3", "--updates", "2"]
    assert main(["pretrain", "--images", str(out), *how, "--batch", "9", "--out", str(runs)]) == 0
    assert json.loads((runs / "config.json").read_text())["captions"] == 3
