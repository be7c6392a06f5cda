"""What the dashboard file holds, without a browser."""

import base64
import hashlib
import itertools
import json
import re
import shutil
from importlib.resources import files

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ghosttrack.common.errors import CorruptInputError, DataError, MissingInputError
from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.answers import GENERATIONS, read_answers
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.causes import CAUSES
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.models.vocabulary import token_texts
from ghosttrack.stages.detect.columns import fit_experts
from ghosttrack.stages.detect.crossval import TABLES
from ghosttrack.stages.detect.reading import complete, read_data
from ghosttrack.stages.report.dashboard import packing, reasons, tracks
from ghosttrack.stages.report.dashboard.account import contestants, of_cells
from ghosttrack.stages.report.dashboard.build import build
from ghosttrack.stages.report.dashboard.measured import in_other_contexts
from ghosttrack.stages.report.dashboard.reasons import explanation
from ghosttrack.stages.report.results import Results
from tests.stages.detect import synthetic as made_up
from tests.stages.report import synthetic
from tests.stages.report.synthetic import MARKUP, make_run
from tests.stages.report.unpacking import unpack


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    make_run(root)
    return root


@pytest.fixture(scope="module")
def results(root):
    return Results.open(str(root), "made-up")


@pytest.fixture(scope="module")
def page(results):
    return build(results)


@pytest.fixture(scope="module")
def small_page(results):
    """With the least detail."""
    return build(results, limit=720e3)


@pytest.fixture(scope="module")
def nodes(results):
    frame = pq.read_table(results.path(TRACKS)).to_pandas()
    return {name: frame[name].to_numpy() for name in frame}


def blocks(page):
    return dict(re.findall(r'<script type="text/plain" id="block-(\w+)">([^<]*)</script>', page))


def test_a_block_comes_back_as_it_was():
    columns = {"a": np.array([1, -128, 127]), "b": np.array([40_000, -3]), "c": np.array([], dtype=int)}
    header, back = unpack(packing.pack({"text": "ä<b>"}, columns))
    assert header == {"text": "ä<b>"}
    assert [back[name].dtype.name for name in "abc"] == ["int8", "int32", "int8"]
    for name, values in columns.items():
        np.testing.assert_array_equal(back[name], values)


def test_thousandths_round_as_text_does():
    values = np.random.default_rng(0).normal(0, 3, 2000)
    assert [f"{v / 1000:.3f}" for v in packing.thousandths(values)] == [
        f"{round(v, 3) + 0.0:.3f}" for v in values
    ]
    assert packing.thousandths([np.nan, -np.inf]).tolist() == [packing.MISSING] * 2


def test_the_strongest_tracks_by_activation_and_by_effect_in_turn(nodes):
    found = tracks.ranks(nodes, nodes["track"])
    for question, position in ((0, -1), (3, 0), (7, 2)):
        rows = np.flatnonzero((nodes["question"] == question) & (nodes["position"] == position))
        names = np.unique(nodes["track"][rows])
        by = {
            key: sorted(names, key=lambda t: -sum(abs(nodes[key][r]) for r in rows if nodes["track"][r] == t))
            for key in ("activation", "effect")
        }
        order = []
        for pair in zip(by["activation"], by["effect"], strict=True):
            order += [track for track in dict.fromkeys(pair) if track not in order]
        ranked = sorted(names, key=lambda t: found[rows[nodes["track"][rows] == t][0]])
        assert ranked == order


def test_batches_are_cut_between_questions(nodes):
    n = len(nodes["question"])
    cuts = [0, 10, 11, n // 3, n - 5, n]
    pieces = list(
        tracks.whole_questions({k: v[a:b] for k, v in nodes.items()} for a, b in itertools.pairwise(cuts))
    )
    assert sum(len(piece["question"]) for piece in pieces) == n
    last = [set(piece["question"]) for piece in pieces]
    assert all(a.isdisjoint(b) for i, a in enumerate(last) for b in last[i + 1 :])


def test_the_census_counts_links_and_answers_as_one_by_one(nodes):
    labels = np.where(np.arange(24) % 5 == 4, np.nan, np.arange(24) % 2)
    census = tracks.Census(1000, labels)
    for piece in tracks.whole_questions(
        [{k: v[:900] for k, v in nodes.items()}, {k: v[900:] for k, v in nodes.items()}]
    ):
        census.add(piece)
    links, examples, parts = census.result()
    counted: dict[tuple[int, int], list[float]] = {}
    last: dict[tuple[int, int, int], int] = {}
    strongest: dict[int, dict[int, float]] = {}
    for row in range(len(nodes["question"])):
        track = tuple(int(nodes[name][row]) for name in ("question", "position", "track"))
        latent = int(nodes["layer"][row]) * 1000 + int(nodes["latent"][row])
        if track in last:
            counted.setdefault((last[track], latent), []).append(float(nodes["posterior"][row]))
        last[track] = latent
        best = strongest.setdefault(latent, {})
        best[track[0]] = max(best.get(track[0], 0.0), float(nodes["activation"][row]))
    assert {
        (int(s), int(t)): int(n) for s, t, n in zip(links.source, links.target, links.times, strict=True)
    } == {pair: len(v) for pair, v in counted.items()}
    for s, t, mean in zip(links.source, links.target, links.posterior, strict=True):
        assert mean == pytest.approx(np.mean(counted[int(s), int(t)]), abs=1e-6)
    for latent, wrong, right in zip(*parts, strict=True):
        seen = list(strongest[latent])
        assert (wrong, right) == (sum(labels[q] == 1 for q in seen), sum(labels[q] == 0 for q in seen))
    assert len(parts.latent) == len(strongest)
    for latent, best in list(strongest.items())[:40]:
        found = examples.activation[examples.latent == latent]
        np.testing.assert_allclose(found, sorted(best.values(), reverse=True)[: tracks.EXAMPLES])


def test_a_wrong_answer_stands_beside_a_right_one_of_its_relation():
    label = np.array([1, 0, 0, 0, 1, np.nan])
    relation = np.array(["a", "a", "a", "b", "c", "b"])
    length = np.array([2, 5, 2, 2, 2, 1])
    beside, same = tracks.matches(label, relation, length, np.zeros(6))
    assert beside.tolist() == [2, 0, 0, 0, 2, 3]
    assert same.tolist() == [True, True, True, False, False, True]


def test_who_stands_beside_is_the_nearest_of_all():
    rng = np.random.default_rng(0)
    label = rng.choice([0.0, 1.0, np.nan], 400, p=[0.45, 0.45, 0.1])
    relation, length = rng.choice(list("abcdef"), 400), rng.integers(1, 9, 400)
    label[relation == "f"] = 1  # whose right answers are of other relations
    confidence = rng.choice([*np.linspace(-3, 0, 25)], 400)  # many are equal
    beside, same = tracks.matches(label, relation, length, confidence)
    for number in range(400):
        pool = np.flatnonzero(label == (1 if label[number] == 0 else 0))
        own = pool[relation[pool] == relation[number]]
        assert same[number] == (len(own) > 0)
        pool = own if len(own) else pool
        away = abs(length[pool] - length[number]) * 1e6 + np.abs(confidence[pool] - confidence[number])
        assert beside[number] == pool[np.argmin(away)]


def test_everyone_right_leaves_nobody_to_stand_beside():
    beside, _ = tracks.matches(np.zeros(3), np.array(["a"] * 3), np.ones(3), np.zeros(3))
    assert beside.tolist() == [-1, -1, -1]


def test_numbers_of_trajectories_are_those_of_the_tables(page, nodes):
    found, columns = unpack(blocks(page)["q0"])
    cell = next(cell for cell in found[3]["cells"] if cell["position"] == 1)
    start, stop = cell["nodes"]
    rows = np.flatnonzero((nodes["question"] == 3) & (nodes["position"] == 1))
    shown = sorted(
        zip(
            *(
                columns[f"nodes.{name}"][start:stop].tolist()
                for name in ("track", "layer", "latent", "activation", "effect")
            ),
            strict=True,
        )
    )
    wanted = sorted(
        (
            int(nodes["track"][r]),
            int(nodes["layer"][r]),
            int(nodes["latent"][r]),
            *(round(float(nodes[name][r]) * 1000) for name in ("activation", "effect")),
        )
        for r in rows
    )
    assert shown == wanted


def test_texts_are_never_markup_in_the_file(page):
    assert MARKUP not in page
    assert "onerror" not in page
    assert page.count("<script>") == 1


def test_only_our_own_script_and_style_and_the_charting_library_are_admitted(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    library = unpack(blocks(page)["charting"])[0]
    for script in library["scripts"]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f" 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "innerHTML" not in page
    assert "insertAdjacentHTML" not in page


def test_the_charting_library_is_what_its_notice_says_and_comes_with_its_licences(page):
    vendor = files("ghosttrack.stages.report.dashboard") / "web" / "vendor"
    notice = (vendor / "NOTICE.txt").read_text(encoding="utf-8")
    said = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)  ", notice, re.MULTILINE)}
    found = {each.name: each.read_bytes() for each in vendor.iterdir() if each.name.endswith(".js")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in found.items()} == said
    library = unpack(blocks(page)["charting"])[0]
    assert sorted(library["scripts"]) == sorted(content.decode() for content in found.values())
    assert library["notice"] == notice
    for name in ("Observable Plot", "D3", "d3-ease", "robust-predicates", "interval-tree-1d", "isoformat"):
        assert re.search(rf"^== (In [\w ]+: )?{name}$", notice, re.MULTILINE)


def test_tokens_read_as_the_tokenizer_decodes_them():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    texts = ["The capital of Österreich is Wien\n", "東京 😀 a\tb"] * 3
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=320,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|end|>"],
            show_progress=False,
        ),
    )
    ids = list(range(tokenizer.get_vocab_size()))
    found = token_texts(json.loads(tokenizer.to_str()), [*ids, 10**6])
    assert found == {number: tokenizer.decode([number], skip_special_tokens=False) for number in ids}


def test_vocabularies_that_mark_spaces():
    tokenizer = {"model": {"vocab": [["<unk>", 0.0], ["▁Paris", -1.0], ["<0x0A>", -2.0]]}, "decoder": None}
    assert token_texts(tokenizer, [1, 2]) == {1: " Paris", 2: "\n"}


def test_a_small_limit_leaves_out_detail_but_no_question(small_page, page):
    assert len(small_page) < len(page)
    found, _ = unpack(blocks(small_page)["q0"])
    assert len(found) == 20
    assert all(record["cells"] for record in found)


def test_every_latent_that_a_page_links_to_has_a_page(tmp_path):
    make_run(tmp_path, questions=3, positions=3, tracks=30, latents=400)
    small = blocks(build(Results.open(str(tmp_path), "made-up"), limit=650e3))
    index, columns = unpack(small["latents"])
    known = set(zip(columns["layer"].tolist(), columns["latent"].tolist(), strict=True))
    pages = [page for key in small if re.fullmatch(r"f\d+", key) for page in unpack(small[key])[0]]
    assert len(pages) == len(known) == len(index["promoted"])
    whole = [page for page in pages if "from" in page]
    named = {tuple(row[:2]) for page in whole for row in page["from"] + page["to"]}
    drawn = set()
    for key in small:
        if re.fullmatch(r"q\d+", key):
            _, nodes = unpack(small[key])
            drawn |= set(zip(nodes["nodes.layer"].tolist(), nodes["nodes.latent"].tolist(), strict=True))
    assert named | drawn <= known
    assert drawn <= {(page["layer"], page["latent"]) for page in whole}
    assert len(whole) < len(pages)
    assert all("firing_rate" in page for page in pages)


def test_neighbours_are_the_most_frequent_links(page, nodes):
    counted: dict[tuple[int, int], dict[tuple[int, int], int]] = {}
    last: dict[tuple[int, int, int], tuple[int, int]] = {}
    for row in range(len(nodes["question"])):
        track = tuple(int(nodes[name][row]) for name in ("question", "position", "track"))
        latent = (int(nodes["layer"][row]), int(nodes["latent"][row]))
        if track in last:
            after = counted.setdefault(last[track], {})
            after[latent] = after.get(latent, 0) + 1
        last[track] = latent
    found, _ = unpack(blocks(page)["f0"])
    for entry in found:
        after = counted.get((entry["layer"], entry["latent"]), {})
        assert [row[2] for row in entry["to"]] == sorted(after.values(), reverse=True)[:6]
        assert all(after[tuple(row[:2])] == row[2] for row in entry["to"])


def test_what_was_left_out_is_counted(results, page, nodes, small_page):
    whole, _ = unpack(blocks(page)["run"])
    small = blocks(small_page)
    extent = unpack(small["run"])[0]["extent"]
    cells = [
        cell
        for key in small
        if re.fullmatch(r"q\d+", key)
        for record in unpack(small[key])[0]
        for cell in record["cells"]
    ]
    assert extent["positions"] == [len(cells), 24 * 4]
    every = len(set(zip(*(nodes[name].tolist() for name in ("question", "position", "track")), strict=True)))
    assert whole["extent"]["tracks"] == [every, every]
    tracks_shown = 0
    for key in small:
        if re.fullmatch(r"q\d+", key):
            heads, columns = unpack(small[key])
            for record in heads:
                for cell in record["cells"]:
                    tracks_shown += len(set(columns["nodes.track"][slice(*cell["nodes"])].tolist()))
    assert extent["tracks"] == [tracks_shown, every]
    pages = [page for key in small if re.fullmatch(r"f\d+", key) for page in unpack(small[key])[0]]
    assert extent["latents"] == [sum("from" in page for page in pages), 6 * 64]
    contexts = pq.read_table(results.path(LATENT_CONTEXTS))
    assert extent["contexts"] == [sum(len(page.get("contexts", [])) for page in pages), len(contexts)]


def test_a_page_too_large_with_the_least_detail_is_one_clear_error(results):
    with pytest.raises(DataError, match=r"made-up takes .* more than the 200"):
        build(results, limit=200e3)


def test_the_files_named_as_shown_are_those_that_were_read(root):
    results = Results.open(str(root), "made-up")
    run, _ = unpack(blocks(build(results))["run"])
    assert set(run["digests"]) == {
        "detect/all/hallucination_scores.json", "detect/tokens/token_metrics.json", "evaluate/all/final_report.json", "prepare/model/tokenizer.json",
        "sae_train/quality/sae_quality.json", "track/account/account.parquet", "track/account/origins.parquet", "track/all/layers.parquet",
        "track/all/tracks.parquet", "track/causes/causes.parquet", "track/contexts/contexts.parquet",
        "track/reasons/reasons.jsonl", "track/validation/validation.json", "track/answers/candidates.parquet", "track/answers/generations.jsonl",
        "track/answers/lens.parquet", "track/association/excerpts.parquet", "track/association/latents.parquet",
    }  # fmt: skip
    for name, digest in run["digests"].items():
        unit, _, file = name.rpartition("/")
        assert hashlib.sha256(results.verified(unit, file).read_bytes()).hexdigest() == digest


def test_the_same_results_make_the_same_file(results, page):
    assert build(results) == page


def test_a_tampered_result_is_refused_by_name(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy", symlinks=True)
    [file] = (tmp_path / "copy/.store/detect").glob("*/hallucination_scores.json")
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"predicted": 1', '"predicted": 0', 1))
    with pytest.raises(CorruptInputError, match=r"hallucination_scores\.json"):
        build(Results.open(str(tmp_path / "copy"), "made-up"))


def test_a_tampered_manifest_is_refused_by_name(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy", symlinks=True)
    [file] = (tmp_path / "copy/.store/evaluate").glob("*/manifest.json")
    file.write_text(file.read_text().replace("123.4", "12.4"))
    with pytest.raises(CorruptInputError, match="evaluate/all"):
        Results.open(str(tmp_path / "copy"), "made-up")


@pytest.mark.parametrize(
    "missing",
    [
        "evaluate/all",
        "detect/all",
        "track/account",
        "track/causes",
        "track/validation",
        "track/all",
        "track/association",
        "sae_train/quality",
        "track/answers",
    ],
)
def test_a_missing_stage_is_named_and_the_rest_is_there(tmp_path, missing):
    make_run(tmp_path, questions=5, without=[missing])
    run, _ = unpack(blocks(build(Results.open(str(tmp_path), "made-up")))["run"])
    assert any(entry["file"].startswith(missing) for entry in run["absent"])
    assert missing not in {unit["unit"] for unit in run["provenance"]}
    assert len(run["provenance"]) == 12


def test_the_picture_of_an_answer_is_its_account(page, results):
    """Of every position and layer: shares of the three contestants, and the lead over the right candidate where there is one."""
    account = pq.read_table(results.path(ACCOUNT)).to_pandas()
    candidates = pq.read_table(results.path(CANDIDATES)).to_pandas()
    records = read_answers(results.path(GENERATIONS))
    heads, columns = unpack(blocks(page)["q0"])
    seen = {"right": 0, "rival": 0}
    for number, head in enumerate(heads):
        for cell in head["cells"]:
            at = max(cell["position"], 0)
            own = candidates[(candidates.question == number) & (candidates.position == at)].sort_values(
                "rank"
            )
            texts = [
                f" {synthetic.WORDS[token - 1]}" if token <= len(synthetic.WORDS) else ""
                for token in own.token
            ]
            right = [
                k for k, text in enumerate(texts) if k and at == 0 and text.strip() == records[number].gold
            ]
            rival = next(k for k in range(1, len(texts)) if k not in right)
            rows = account[(account.question == number) & (account.position == cell["position"])].sort_values(
                "layer"
            )
            start, stop = cell["account"]
            assert columns["account.layer"][start:stop].tolist() == rows.layer.tolist()
            assert columns["account.leader"][start:stop].tolist() == rows.leader.tolist()
            logit = np.stack(rows.logit.to_numpy()).astype(float)
            logs = logit - np.log(np.exp(logit).sum(axis=1, keepdims=True))
            shown = {
                name: columns[f"account.{name}"][start:stop] for name in ("said", "right", "rival", "total")
            }
            np.testing.assert_allclose(shown["said"] / 1000, logs[:, 0], atol=6e-4)
            np.testing.assert_allclose(shown["rival"] / 1000, logs[:, rival], atol=6e-4)
            if right:
                np.testing.assert_allclose(shown["right"] / 1000, logs[:, right[0]], atol=6e-4)
            else:
                assert set(shown["right"].tolist()) == {packing.MISSING}
            lead = logit[:, 0] - logit[:, right[0] if right else rival]
            np.testing.assert_allclose(shown["total"] / 1000, lead, atol=1e-3)
            parts = sum(
                columns[f"account.{name}"][start:stop].astype(int)
                for name in ("tracks", "untracked", "bias", "sae_error")
            )
            np.testing.assert_allclose(parts / 1000, lead, atol=4e-3)
            seen["right" if right else "rival"] += 1
    assert min(seen.values()) > 3


def test_what_the_model_says_in_other_contexts_in_a_sentence():
    found = in_other_contexts("Oslo", ["Rome", "Oslo", "Rome", ""], np.array([0.6, 0.1, 0.5, 0.1, 0.1]))
    assert found == (
        "In 4 other contexts the model gives this answer once, and says “Rome” twice, “nothing” once. The answer had a probability of "
        "60% as asked and has 20% on average in the others."
    )
    another = in_other_contexts("Oslo", list("abcde"), np.full(6, 0.5))
    assert (
        "the model never gives this answer, and says “a” once, “b” once, “c” once, 2 other answers."
        in another
    )
    assert in_other_contexts("Oslo", ["Oslo"], np.array([0.5, 0.25])).startswith(
        "The model gives the same answer in the other context. "
    )


def test_contestants_of_later_tokens_go_on_from_what_was_said():
    records = [{"tokens": [" New", " Jersey"], "aliases": ["New York", "NY"], "gold": "New York"}]
    texts = {"0": " Jersey", "1": " England", "2": " York", "3": " New", "4": " NY"}
    cells = np.array([1, 1, 1, 2, 2, 2])
    found = contestants({"cell": cells, "token": np.array([3, 1, 4, 0, 1, 2])}, texts, records)
    assert found.right.tolist() == [2, 2]  # another name of it at first; then the rest of what was begun
    assert found.rival.tolist() == [1, 1]
    at_subject = of_cells(found, np.array([0, 1]))
    assert at_subject.right.tolist() == [2, 2]
    texts |= {"5": "New", "6": " new"}  # what was said, spelled otherwise
    found = contestants({"cell": cells[:3], "token": np.array([3, 5, 6])}, texts, records)
    assert (found.right.tolist(), found.rival.tolist()) == ([-1], [-1])
    texts |= {"7": " N"}  # New Jersey begins so as well
    found = contestants({"cell": cells[:3], "token": np.array([3, 7, 4])}, texts, records)
    assert (found.right.tolist(), found.rival.tolist()) == ([2], [-1])


def test_what_was_measured_stands_with_its_question(page, results):
    heads, _ = unpack(blocks(page)["q0"])
    causes = pq.read_table(results.path(CAUSES)).to_pandas()
    evidence = pq.read_table(results.path(EVIDENCE)).to_pandas()
    for number, head in enumerate(heads):
        own = causes[causes.question == number]
        assert [row["drop"] for row in head.get("interventions", [])] == pytest.approx(
            own["drop"].tolist(), abs=1e-4
        )
        answers = head["contexts"]["answers"]
        assert [side for _, side, _ in answers] == [1, 2, 0]
        assert head["contexts"]["sentence"].startswith("The model gives the same answer in 2 other contexts.")
        for k, (text, _, chances) in enumerate(answers):
            rows = evidence[(evidence.question == number) & (evidence.hypothesis == k)]
            assert set(rows.text) == {text}
            assert chances == pytest.approx(np.exp(rows.total).tolist(), abs=1e-4)
        assert ("reason" in head) == (results.lines(GENERATIONS)[number]["label"] == 1)


def test_contributions_are_put_in_words_largest_first():
    found = explanation(
        {
            "contributions": {"lens.first.rank.4": 0.05, "tracks.last.churn.births.late": -0.4},
            "rest": 0.1,
            "intercept": 0.2,
            "additive_log_odds": -0.05,
            "nearest_right": "x",
        }
    )
    assert [part["words"] for part in found["parts"]] == [
        "tracks: churn, births in the late layers at the last answer token",
        "logit lens: rank in layer 4 at the first answer token",
    ]
    assert sum(part["contribution"] for part in found["parts"]) + found["rest"] + found[
        "intercept"
    ] == pytest.approx(found["additive_log_odds"])
    assert explanation({"id": "a"}) is None


def test_every_column_that_an_explanation_weighs_has_words_of_its_own(tmp_path):
    names = columns_of_detect(tmp_path)
    assert {"tracks.score", "lens.score", "error.score", "latents.score", "samples.agreement"} <= set(names)
    assert {name.split(".")[0] for name in names} <= set(reasons.SIGNALS)
    assert set(names) == set(reasons.COLUMNS)
    assert len({reasons.words(name) for name in names}) == len(names)
    assert not any("_" in reasons.words(name) or ".score" in reasons.words(name) for name in names)


def columns_of_detect(folder):
    """Names of the columns that the detector weighs, of made-up answers, those of sampled answers among them."""
    lines, wrong = made_up.answers(90)
    lines = [{**line, "samples": ["word", "other"]} for line in lines]
    layers = made_up.config().layers
    made_up.write_track_unit(folder, lines, made_up.tracks(lines, wrong, layers))
    files = {file.name: file for file in folder.iterdir()}
    data = read_data(files, read_answers(folder / "generations.jsonl"), layers, 64)[0]
    rows = np.flatnonzero(complete(data))
    tables = [name for name in TABLES if name in data.tables]
    _, columns, _ = fit_experts(data.of(rows), wrong[rows].astype(float), np.arange(len(rows)) % 2, tables)
    return columns.names


def test_no_results_at_all(tmp_path):
    with pytest.raises(MissingInputError, match="ghosttrack run nothing"):
        Results.open(str(tmp_path), "nothing")
