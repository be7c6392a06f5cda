"""Files of other people, and published ones that a disk has damaged: read, or refused in one line; never a traceback.

`corpus/` holds the files that broke something once, by kind; they are always tried. The rest comes of the seed.
"""

import contextlib
import gzip
import io
import itertools
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save

from ghosttrack.common.engine.fingerprint import content_of, content_of_sae
from ghosttrack.common.errors import ConfigError, CorruptInputError, DataError, ModelSourceError
from ghosttrack.common.formats.file import Column, Json, Lines, Table
from ghosttrack.common.models import pretrained
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.sizes import sizes_of
from ghosttrack.stages.prepare import chat, files, sources
from ghosttrack.stages.prepare.rows import FIELDS as ROW_FIELDS
from ghosttrack.stages.prepare.rows import RowError, check
from tests.faults.conftest import SEED, Tally, budget
from tests.faults.hostile import VALUES, as_json, changed, damaged, is_taken_or_refused
from tests.faults.injection import run

CORPUS = Path(__file__).parent / "corpus"
WIDTH, LATENTS = 4, 8
ROWS: list[dict[str, Any]] = [
    {"question": "who?", "answer": "me"},
    {"question": "q", "answer": {"value": "a", "aliases": ["b"]}},
    {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answer": "A"},
    {"question": "q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 1},
    {
        "id": "1",
        "title": "t",
        "question": "q",
        "answers": {"text": ["a"], "answer_start": [1]},
        "context": "c",
    },
    {"question": "q", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}, "mc2_targets": {}},
    {"prompt": "p", "response": "said", "spans": [[0, 2, 1]], "label": 1, "passage": "x"},
    {"id": "1", "source_id": "2", "model": "m", "labels": [{"start": 0, "end": 1}], "response": "said"},
]
FIELDS = (
    "id",
    "question",
    "prompt",
    "passage",
    "choices",
    "answer",
    "aliases",
    "relation",
    "subject",
    "response",
    "label",
    "spans",
)
WEIGHTS = {
    "W_enc": torch.ones(WIDTH, LATENTS), "b_enc": torch.zeros(LATENTS), "W_dec": torch.ones(LATENTS, WIDTH),
    "b_dec": torch.zeros(WIDTH), "threshold": torch.ones(LATENTS),
}  # fmt: skip
SETTINGS = {
    "architecture": "jumprelu", "d_in": WIDTH, "d_sae": LATENTS, "apply_b_dec_to_input": False, "normalize_activations": "none",
    "metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.0.hook_resid_post", "l0": 3.0,
                 "ghosttrack": {"scale": 1.0, "norm_limit": None, "target_l0": 3.0, "layer": 0}},
}  # fmt: skip
LLAMA_SCOPE = {
    "act_fn": "jumprelu", "hook_point_in": "blocks.0.hook_resid_post", "jump_relu_threshold": 0.3,
    "dataset_average_activation_norm": {"in": 3.0},
}  # fmt: skip
MORE_SETTINGS = (
    "k",
    "activation_fn",
    "activation_fn_kwargs",
    "finetuning_scaling_factor",
    "rescale_acts_by_decoder_norm",
)


def read_all(path: Path) -> None:
    """As questions, as new questions, as text: whichever takes it."""
    uses: list[Callable[[], object]] = [
        lambda: sources.read_questions(str(path), {}),
        lambda: sources.read_asked(path, {}),
        lambda: sources.read_local_corpus(path, "text"),
        lambda: sources.check_questions(str(path), {}, None, "validation"),
    ]
    for use in uses:
        assert is_taken_or_refused(use), path.read_bytes()[:300]


def test_question_files(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random(SEED)
    for _ in range(budget(150, 4000)):
        rows = [changed(chance.choice(ROWS), chance, FIELDS) for _ in range(chance.choice([1, 2, 5]))]
        ending = chance.choice([".jsonl", ".jsonl", ".json", ".ndjson", ".jsonl.gz", ".txt"])
        whole = chance.choice([rows, {"data": rows}, chance.choice(VALUES)])
        content = damaged(as_json(whole) if ending == ".json" else b"\n".join(map(as_json, rows)), chance)
        path = tmp_path / f"q{ending}"
        path.write_bytes(damaged(gzip.compress(content, 1), chance) if ending.endswith(".gz") else content)
        read_all(path)
        tally("hostile file: questions", True)


def test_tables_of_questions(tmp_path: Path, tally: Tally) -> None:
    """`datasets` takes a tenth of a second a file, so there are fewer."""
    chance = random.Random(SEED)
    for _ in range(budget(3, 150)):
        ending = chance.choice([".csv", ".tsv", ".csv.gz", ".parquet"])
        path = tmp_path / f"q{ending}"
        if ending == ".parquet":
            pq.write_table(
                pa.table({"question": ["a", "b"], "answer": [chance.choice(["x", None]), "y"]}), path
            )
            path.write_bytes(damaged(path.read_bytes(), chance))
        else:
            cells = [[str(chance.choice(VALUES)) for _ in range(3)] for _ in range(3)]
            text = "\n".join(",".join(row) for row in [["question", "answer", "a\nb"], *cells])
            content = damaged(text.encode(errors="surrogatepass"), chance)
            path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
        assert is_taken_or_refused(lambda path=path: sources.read_questions(str(path), {}))  # type: ignore[misc]
        tally("hostile file: tables of questions", True)


def test_a_table_whose_texts_are_none(tmp_path: Path, tally: Tally) -> None:
    """The library looks at what is in a row as it is read."""
    texts = pa.array([b"\xff?", b"b?"]).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"question": texts, "answer": ["x", "y"]}), tmp_path / "q.parquet")
    with pytest.raises(DataError, match=r"cannot be loaded.*can't decode"):
        sources.read_questions(str(tmp_path / "q.parquet"), {})
    tally("hostile file: tables of questions", True)


def archive(tensors: dict[str, torch.Tensor], chance: random.Random) -> bytes:
    file = io.BytesIO()
    arrays: dict[str, Any] = {
        name.lower() if chance.random() < 0.5 else name: value.numpy() for name, value in tensors.items()
    }
    if chance.random() < 0.1:
        arrays["w_enc"] = np.array([object()], dtype=object)
    np.savez(file, **arrays)
    return file.getvalue()


def other_weights(weights: dict[str, torch.Tensor], chance: random.Random) -> dict[str, torch.Tensor]:
    found = {name: value.clone() for name, value in weights.items()}
    name = chance.choice(list(found))
    kind = chance.randrange(6)
    if kind == 0:
        del found[name]
    elif kind == 1:
        found[name] = torch.zeros([chance.randrange(5) for _ in range(chance.randrange(4))])
    elif kind == 2:
        found[name] = found[name].to(chance.choice([torch.float16, torch.int8, torch.bool, torch.float64]))
    elif kind == 3:
        found[name][...] = chance.choice([float("nan"), float("inf"), 1e38, 0.0])
    return found


def test_folders_of_saes(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random(SEED)
    for number in range(budget(150, 3000)):
        place = folder = tmp_path / str(number)
        (folder / "checkpoints").mkdir(parents=True)
        kind = chance.choice(["saelens", "gemma", "llama"])
        if kind == "saelens":
            (folder / "cfg.json").write_bytes(
                damaged(as_json(changed(SETTINGS, chance, MORE_SETTINGS)), chance)
            )
            (folder / "sae_weights.safetensors").write_bytes(
                damaged(save(other_weights(WEIGHTS, chance)), chance)
            )
        elif kind == "gemma":
            place = folder / "params.npz"
            place.write_bytes(damaged(archive(other_weights(WEIGHTS, chance), chance), chance))
        else:
            (folder / "hyperparams.json").write_bytes(damaged(as_json(changed(LLAMA_SCOPE, chance)), chance))
            named = {"encoder.weight": WEIGHTS["W_enc"].T.contiguous(), "encoder.bias": WEIGHTS["b_enc"],
                     "decoder.weight": WEIGHTS["W_dec"].T.contiguous(), "decoder.bias": WEIGHTS["b_dec"]}  # fmt: skip
            (folder / "checkpoints/final.safetensors").write_bytes(
                damaged(save(other_weights(named, chance)), chance)
            )
        content_of_sae(place)
        assert is_taken_or_refused(
            lambda place=place: pretrained.read(
                place, layer=0, d_model=WIDTH, d_hidden=LATENTS, target_l0=3.0
            )  # type: ignore[misc]
        )
        shutil.rmtree(folder)
        tally("hostile file: SAEs of others", True)


def test_an_archive_of_arrays_that_is_a_bomb(tmp_path: Path, tally: Tally) -> None:
    np.savez_compressed(tmp_path / "params.npz", W_enc=np.zeros(30_000_000, np.float32))
    with pytest.raises(CorruptInputError, match="unpacks to more than 50 times its size"):
        pretrained.read(tmp_path / "params.npz", layer=0, d_model=WIDTH, d_hidden=LATENTS, target_l0=3.0)
    tally("hostile file: bomb", True)


def test_published_files(tmp_path: Path, tally: Tally) -> None:
    """Of every kind: JSON, JSON Lines, tables, a SAE."""
    chance = random.Random(SEED)
    path = tmp_path / "file"
    json_file, lines = Json("file", "weigh", "", version=2), Lines("file", "weigh", "")
    table = Table("file", "weigh", "", columns=(Column("n", "int64"),))
    pq.write_table(pa.table({"n": [1, 2, 3]}), path)
    parquet = path.read_bytes()
    JumpReLUSAE(**WEIGHTS, mean=torch.zeros(WIDTH), scale=1.0, norm_limit=9.0, layer=0, target_l0=3.0).save(
        path
    )
    sae = path.read_bytes()
    kinds: list[tuple[bytes, Callable[[Path], object]]] = [
        (as_json({"schema_version": 2, "a": [1]}), json_file.read),
        (b"\n".join([as_json({"a": 1})] * 3), lines.read),
        (parquet, table.read),
        (sae, JumpReLUSAE.load),
    ]
    for _ in range(budget(150, 2000)):
        content, read = chance.choice(kinds)
        path.write_bytes(damaged(content, chance))
        assert is_taken_or_refused(lambda read=read: read(path))  # type: ignore[misc]
        tally("hostile file: published ones", True)


def header(chance: random.Random) -> bytes:
    """Of a GGUF file, with numbers in it that lie."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.embedding_length") + struct.pack("<II", 4, chance.choice([8, 0, 2**32 - 1])),
        text("llama.block_count") + struct.pack("<II", 4, chance.choice([2, 0, 2**32 - 1])),
        text("a")
        + struct.pack("<IIQ", 9, chance.choice([8, 9, 4, 99]), chance.choice([0, 1, 2**63, 2**64 - 1])),
    ]
    chosen = chance.sample(pairs, chance.randrange(5))
    count = chance.choice([len(chosen), len(chosen), 2**60])
    tensor = (
        text("t")
        + struct.pack("<I", chance.choice([1, 4, 2**32 - 1]))
        + b"\xff" * chance.choice([8, 64, 8000])
    )
    nested = struct.pack("<IQ", 9, 1) * chance.choice([0, 5, 5000])
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, chance.choice([0, 1, 2**63]), count)
        + b"".join(chosen)
        + nested
        + tensor
    )


def test_headers_of_models(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random(SEED)
    config = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "vocab_size": 20,
        "text_config": {"hidden_size": 8},
    }
    weights = save({"a": torch.zeros(3, 8)})
    folder, gguf = tmp_path / "model", tmp_path / "model.gguf"
    folder.mkdir()
    for _ in range(budget(200, 3000)):
        gguf.write_bytes(damaged(header(chance), chance))
        (folder / "config.json").write_bytes(
            damaged(as_json(changed(config, chance, ("n_layer", "auto_map"))), chance)
        )
        (folder / "model.safetensors").write_bytes(damaged(weights, chance))
        (folder / "tokenizer_config.json").write_bytes(
            damaged(as_json({"chat_template": chance.choice(VALUES)}), chance)
        )
        for source in (str(folder), str(gguf)):
            assert is_taken_or_refused(lambda source=source: (content_of(source), sizes_of(source)))  # type: ignore[misc]
            tally("hostile file: headers of models", True)


@pytest.mark.parametrize("path", sorted((CORPUS / "questions").iterdir()), ids=lambda path: path.name)
def test_question_files_that_broke_something_once(path: Path, tally: Tally) -> None:
    read_all(path)
    tally("hostile file: the corpus", True)


@pytest.mark.parametrize("place", sorted((CORPUS / "saes").iterdir()), ids=lambda path: path.name)
def test_saes_that_broke_something_once(place: Path, tally: Tally) -> None:
    assert is_taken_or_refused(
        lambda: pretrained.read(place, layer=0, d_model=WIDTH, d_hidden=LATENTS, target_l0=3.0)
    )
    tally("hostile file: the corpus", True)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * (1 << 24)))
    with pytest.raises(DataError, match="more than"):
        sources.read_questions(str(path), {})


def test_a_configuration_of_more_weights_than_there_are_is_refused(tmp_path: Path) -> None:
    """transformers would take the memory for all of them, and then see that they are missing."""
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 10**9}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(save({"a": torch.zeros(3, 8)}))
    with pytest.raises(ModelSourceError, match="describes at least 8000000000 weights"):
        sizes_of(str(tmp_path))


def test_a_shape_that_is_longer_than_a_lifetime_is_not_multiplied(tmp_path: Path, tally: Tally) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2}')
    header = b'{"a": {"shape": [%s]}}' % b",".join([b"9" * 4000] * 4000)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)

    def read() -> int:
        return sizes_of(str(tmp_path)).parameters is not None

    done = run(read, tmp_path, limit=120)
    assert done.code == 0, done.said
    tally("hostile file: header of a model", True)


PARTS = (
    " ", "\t", "\n", "a", "a ", "9", "9,", "(", "[", "{", '"', "#", "####", "\n####", "|", "\\", "½ ", "é", "٣", "=", "A) ",
)  # fmt: skip


def test_rows_of_long_parts(tmp_path: Path, tally: Tally) -> None:
    """Texts of one part again and again, which a pattern may try in pairs, and of more digits than Python reads."""

    def read() -> int:
        spaced = {"question": "Which?", "answer": f"#### a{' ' * 300_000}b"}
        assert check(spaced, 1, {}).aliases == ("a b",)
        for part, field, (head, tail) in itertools.product(PARTS, ROW_FIELDS, (("", ""), ("#### a", "b"))):
            text = head + part * (50_000 // len(part)) + tail
            row = {"question": "Which?", "answer": "a", "choices": ["a", "b"], field: text}
            with contextlib.suppress(RowError):
                check(row, 1, {})
        return 0

    done = run(read, tmp_path, limit=120)
    assert done.code == 0, done.said
    for _ in PARTS:
        tally("hostile file: rows of long parts", True)


def test_a_pipe_is_no_text(tmp_path: Path, tally: Tally) -> None:
    """Nor is a device, nor a folder whose name ends in .txt."""
    (tmp_path / "texts/folder.txt").mkdir(parents=True)
    (tmp_path / "texts/folder.txt/a.txt").write_text("one")
    os.mkfifo(tmp_path / "texts/pipe.txt")

    def read() -> int:
        with pytest.raises(DataError, match="there is no such file"):
            sources.read_local_corpus(tmp_path / "texts/pipe.txt", "text")
        for template in (tmp_path / "texts/pipe.txt", "/dev/zero"):
            with pytest.raises(ConfigError, match="it is no file; give auto"):
                chat._template(str(template))
        return sources.read_local_corpus(tmp_path / "texts", "text") != ["one"]

    done = run(read, tmp_path, limit=120)
    assert done.code == 0, done.said
    tally("hostile file: pipes and devices", True)


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/stdin"])
def test_a_device_is_no_source(source: str, tally: Tally) -> None:
    assert content_of(source) == source
    with pytest.raises(ModelSourceError):
        sizes_of(source)
    tally("hostile file: devices", True)
